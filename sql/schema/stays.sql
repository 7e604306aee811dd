-- Sample tables of the stays_reservations reconciliation: what we hold, what our locks hold, and what Stays gave.
-- Names of our tables carry no schema: they land in the current one. Times have a time zone.

create schema if not exists bronze;
comment on schema bronze is 'What was loaded from elsewhere, as it came';

create table properties (
    id bigint primary key,
    organization_id uuid not null,
    name text,
    stays_listing_id text,
    unique (organization_id, stays_listing_id)
);
comment on table properties is 'Houses and flats, each of one organization';
comment on column properties.stays_listing_id is 'The listing in Stays; NULL until somebody fills it in';

create table reservations (
    id uuid primary key default gen_random_uuid(),
    organization_id uuid not null,
    platform text not null,
    external_id text,
    property_id bigint references properties (id),
    check_in timestamptz not null,
    check_out timestamptz not null,
    status text not null,
    guest text,
    cancelled_at timestamptz,
    cancellation_reason text,
    raw jsonb,
    created_at timestamptz default now(),
    updated_at timestamptz default now(),
    unique (organization_id, platform, external_id)
);
comment on table reservations is 'Reservations of all organizations and platforms';
comment on column reservations.platform is 'staysnet, airbnb, booking or direct';
comment on column reservations.external_id is 'The reservation''s code in Stays, such as FN26J; NULL for direct ones only';
comment on column reservations.status is 'pending, confirmed, checked_in, checked_out or cancelled';
comment on column reservations.cancelled_at is 'When it was cancelled here';
comment on column reservations.raw is 'As Stays gave it when it came here first; bronze.stays_reservations has the latest';

create index reservations_organization_id_check_in on reservations (organization_id, check_in);
create index reservations_property_id_check_in on reservations (property_id, check_in);

create table door_credentials (
    reservation_id uuid primary key,
    organization_id uuid,
    credential_id text not null,
    state text not null check (state in ('active', 'revoked')),
    active_from timestamptz,
    revoked_at timestamptz,
    made_at timestamptz default now()
);
comment on table door_credentials is 'What the lock knows of each reservation; never the PIN itself';
comment on column door_credentials.credential_id is 'The credential''s name at the lock';

create table bronze.stays_reservations (
    organization_id uuid,
    platform text,
    external_id text,
    listing_id text,
    check_in timestamptz,
    check_out timestamptz,
    status text,
    guest text,
    problem text,
    updated_at timestamptz,
    raw jsonb,
    absent_at timestamptz,
    primary key (organization_id, platform, external_id)
);
comment on table bronze.stays_reservations is 'Reservations as Stays gave them last';
comment on column bronze.stays_reservations.problem is 'Why the record cannot be read; NULL: it can';
comment on column bronze.stays_reservations.updated_at is 'When it was last changed at Stays';
comment on column bronze.stays_reservations.absent_at is
    'Ours: since when the list of Stays lacks it; NULL: it is there';
