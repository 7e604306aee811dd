-- What people of the CRM look at, filled anew by every run: a table for each object, and the log of all runs.
-- hubspot_only: a HubSpot record that no legacy record agrees with; its legacy id is the one that HubSpot says.

create table staging.companies_reconciliation (
    legacy_company_id text,
    hubspot_company_id text,
    legacy_name text,
    hubspot_name text,
    reconciliation_status text not null check (reconciliation_status in (
        'matched', 'proposed', 'ambiguous', 'unmatched', 'excluded', 'invalid', 'hubspot_only'
    )),
    match_confidence numeric(4, 3),
    properties_to_update jsonb not null,
    last_updated timestamptz not null,
    run text not null
);
create unique index companies_by_legacy_id on staging.companies_reconciliation (legacy_company_id)
    where reconciliation_status <> 'hubspot_only';
create unique index companies_only_in_hubspot on staging.companies_reconciliation (hubspot_company_id)
    where reconciliation_status = 'hubspot_only';
create index companies_by_hubspot_id on staging.companies_reconciliation (hubspot_company_id);
comment on table staging.companies_reconciliation is 'Legacy companies and what they are in HubSpot, as the last run decided';
comment on column staging.companies_reconciliation.properties_to_update is
    'HubSpot properties that differ, with the legacy value';
comment on column staging.companies_reconciliation.last_updated is 'Since when the row says this';
comment on column staging.companies_reconciliation.run is 'The run that said it last';

create table staging.contacts_reconciliation (
    legacy_contact_id text,
    hubspot_contact_id text,
    legacy_name text,
    hubspot_name text,
    reconciliation_status text not null check (reconciliation_status in (
        'matched', 'proposed', 'ambiguous', 'unmatched', 'excluded', 'invalid', 'hubspot_only'
    )),
    match_confidence numeric(4, 3),
    properties_to_update jsonb not null,
    last_updated timestamptz not null,
    run text not null
);
create unique index contacts_by_legacy_id on staging.contacts_reconciliation (legacy_contact_id)
    where reconciliation_status <> 'hubspot_only';
create unique index contacts_only_in_hubspot on staging.contacts_reconciliation (hubspot_contact_id)
    where reconciliation_status = 'hubspot_only';
create index contacts_by_hubspot_id on staging.contacts_reconciliation (hubspot_contact_id);
comment on table staging.contacts_reconciliation is 'Legacy contacts and what they are in HubSpot, as the last run decided';
comment on column staging.contacts_reconciliation.properties_to_update is
    'HubSpot properties that differ, with the legacy value';
comment on column staging.contacts_reconciliation.last_updated is 'Since when the row says this';
comment on column staging.contacts_reconciliation.run is 'The run that said it last';

create table staging.deals_reconciliation (
    legacy_deal_id text,
    hubspot_deal_id text,
    legacy_name text,
    hubspot_name text,
    reconciliation_status text not null check (reconciliation_status in (
        'matched', 'proposed', 'ambiguous', 'unmatched', 'excluded', 'invalid', 'hubspot_only'
    )),
    match_confidence numeric(4, 3),
    properties_to_update jsonb not null,
    last_updated timestamptz not null,
    run text not null
);
create unique index deals_by_legacy_id on staging.deals_reconciliation (legacy_deal_id)
    where reconciliation_status <> 'hubspot_only';
create unique index deals_only_in_hubspot on staging.deals_reconciliation (hubspot_deal_id)
    where reconciliation_status = 'hubspot_only';
create index deals_by_hubspot_id on staging.deals_reconciliation (hubspot_deal_id);
comment on table staging.deals_reconciliation is 'Legacy deals and what they are in HubSpot, as the last run decided';
comment on column staging.deals_reconciliation.properties_to_update is
    'HubSpot properties that differ, with the legacy value';
comment on column staging.deals_reconciliation.last_updated is 'Since when the row says this';
comment on column staging.deals_reconciliation.run is 'The run that said it last';

create table staging.communications_reconciliation (
    legacy_communication_id text,
    hubspot_communication_id text,
    legacy_name text,
    hubspot_name text,
    reconciliation_status text not null check (reconciliation_status in (
        'matched', 'proposed', 'ambiguous', 'unmatched', 'excluded', 'invalid', 'hubspot_only'
    )),
    match_confidence numeric(4, 3),
    properties_to_update jsonb not null,
    last_updated timestamptz not null,
    run text not null
);
create unique index communications_by_legacy_id on staging.communications_reconciliation (legacy_communication_id)
    where reconciliation_status <> 'hubspot_only';
create unique index communications_only_in_hubspot on staging.communications_reconciliation (hubspot_communication_id)
    where reconciliation_status = 'hubspot_only';
create index communications_by_hubspot_id on staging.communications_reconciliation (hubspot_communication_id);
comment on table staging.communications_reconciliation is 'Legacy communications and what they are in HubSpot, as the last run decided';
comment on column staging.communications_reconciliation.properties_to_update is
    'HubSpot properties that differ, with the legacy value';
comment on column staging.communications_reconciliation.last_updated is 'Since when the row says this';
comment on column staging.communications_reconciliation.run is 'The run that said it last';

create table staging.reconciliation_log (
    run text,
    object text,
    reconciliation text not null,
    actor text,
    started_at timestamptz not null,
    completed_at timestamptz not null,
    limited jsonb,
    total bigint not null,
    matched bigint not null,
    unmatched bigint not null,
    proposed bigint not null,
    ambiguous bigint not null,
    excluded bigint not null,
    errors bigint not null,
    hubspot_only bigint,
    properties_to_update bigint,
    primary key (run, object)
);
create index reconciliation_log_of_object on staging.reconciliation_log (object, completed_at desc);
comment on table staging.reconciliation_log is 'Every run of every object; total counts legacy records';
comment on column staging.reconciliation_log.limited is 'What --limit, --from and --to left out; NULL: nothing';
comment on column staging.reconciliation_log.hubspot_only is 'HubSpot records without a legacy one; NULL: not looked for';
comment on column staging.reconciliation_log.properties_to_update is 'Records of which some property differs';
