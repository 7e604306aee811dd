-- Sample tables of the hcp_jobs reconciliation.
-- Names carry no schema: the tables land in the current one. Times have a time zone; dates are days at the property.

create table properties (
    id integer primary key,
    name text not null,
    hcp_customer_id text,
    hcp_address_id text,
    activated_at timestamptz
);
comment on table properties is 'Houses and flats whose stays end with a service';
comment on column properties.hcp_customer_id is 'The owner in HousecallPro; NULL until somebody fills it in';
comment on column properties.hcp_address_id is 'The house in HousecallPro; NULL until somebody fills it in';
comment on column properties.activated_at is 'Since when the normal flow links its jobs; NULL: it does not yet';

create table reservations (
    id integer primary key,
    property_id integer not null references properties (id),
    guest text,
    check_in date not null,
    check_out date not null,
    final_service_time timestamptz not null,
    service_job_id text,
    airtable_id text unique,
    check (check_in < check_out)
);
comment on table reservations is 'Stays, as they stand in Airtable too';
comment on column reservations.final_service_time is 'When the service after the stay is due';
comment on column reservations.service_job_id is 'hcp_jobs.id of that service; NULL until it is linked';
comment on column reservations.airtable_id is 'The record in Airtable, such as recSAMPLE00001001';

create index reservations_property_id on reservations (property_id);
create index reservations_service_job_id on reservations (service_job_id);
create index reservations_final_service_time on reservations (final_service_time);

create table hcp_jobs (
    id text primary key,
    customer_id text,
    address_id text,
    scheduled_start timestamptz,
    scheduled_end timestamptz,
    work_status text,
    description text,
    updated_at timestamptz
);
comment on table hcp_jobs is 'Jobs as HousecallPro gave them when they were loaded last';
comment on column hcp_jobs.customer_id is 'For whom, in HousecallPro';
comment on column hcp_jobs.address_id is 'Where, in HousecallPro';
comment on column hcp_jobs.scheduled_start is 'When the work is to begin; NULL: it is not scheduled yet';
comment on column hcp_jobs.work_status is 'As HousecallPro says it, such as scheduled or complete unrated';

create index hcp_jobs_customer_id_address_id on hcp_jobs (customer_id, address_id, scheduled_start);
create index hcp_jobs_address_id on hcp_jobs (address_id, scheduled_start);
