-- Sample of the HubSpot mirror: what a sync writes of HubSpot's objects into Postgres. The legacy side is not here: its
-- files are loaded as bronze.company, bronze.person, bronze.opportunity and bronze.communication.
-- The icalps ids hold the legacy id as somebody typed or imported it: text, and on purpose neither unique nor checked.

create schema if not exists hubspot;
comment on schema hubspot is 'A mirror of HubSpot: a table for each kind of object';

create table hubspot.companies (
    hs_object_id bigint primary key,
    icalps_company_id text,
    name text,
    domain text,
    updated_at timestamptz
);
comment on table hubspot.companies is 'Companies as HubSpot holds them';
comment on column hubspot.companies.hs_object_id is 'The record in HubSpot';
comment on column hubspot.companies.icalps_company_id is 'Comp_CompanyId of the legacy CRM; NULL where nobody filled it';
comment on column hubspot.companies.domain is 'Bare, such as example.com, as HubSpot keeps it';
comment on column hubspot.companies.updated_at is 'When the record was last changed in HubSpot';

create table hubspot.contacts (
    hs_object_id bigint primary key,
    icalps_contact_id text,
    firstname text,
    lastname text,
    email text,
    updated_at timestamptz
);
comment on table hubspot.contacts is 'Contacts as HubSpot holds them';
comment on column hubspot.contacts.hs_object_id is 'The record in HubSpot';
comment on column hubspot.contacts.icalps_contact_id is 'Pers_PersonId of the legacy CRM; NULL where nobody filled it';
comment on column hubspot.contacts.email is 'In small letters, as HubSpot keeps it';
comment on column hubspot.contacts.updated_at is 'When the record was last changed in HubSpot';

create table hubspot.deals (
    hs_object_id bigint primary key,
    icalps_deal_id text,
    dealname text,
    amount numeric(14, 2),
    dealstage text,
    updated_at timestamptz
);
comment on table hubspot.deals is 'Deals as HubSpot holds them';
comment on column hubspot.deals.hs_object_id is 'The record in HubSpot';
comment on column hubspot.deals.icalps_deal_id is 'Oppo_OpportunityId of the legacy CRM; NULL where nobody filled it';
comment on column hubspot.deals.amount is 'In the currency of the portal';
comment on column hubspot.deals.updated_at is 'When the record was last changed in HubSpot';

create table hubspot.engagements (
    hs_object_id bigint primary key,
    icalps_communication_id text,
    hs_engagement_subject text,
    hs_engagement_type text,
    updated_at timestamptz
);
comment on table hubspot.engagements is 'Calls, e-mails, meetings and notes as HubSpot holds them';
comment on column hubspot.engagements.hs_object_id is 'The record in HubSpot';
comment on column hubspot.engagements.icalps_communication_id is
    'Comm_CommunicationId of the legacy CRM; NULL where nobody filled it';
comment on column hubspot.engagements.hs_engagement_type is 'CALL, EMAIL, MEETING, NOTE or TASK';
comment on column hubspot.engagements.updated_at is 'When the record was last changed in HubSpot';

create index companies_icalps_company_id on hubspot.companies (icalps_company_id);
create index contacts_icalps_contact_id on hubspot.contacts (icalps_contact_id);
create index deals_icalps_deal_id on hubspot.deals (icalps_deal_id);
create index engagements_icalps_communication_id on hubspot.engagements (icalps_communication_id);
