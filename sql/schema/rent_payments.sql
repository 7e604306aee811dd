-- Sample tables of the rent_payments and financial_transactions reconciliations.
-- Names carry no schema: the tables land in the current one. Money is in pounds; dates have no time zone.

create table properties (
    id integer primary key,
    name text not null,
    postcode text not null
);
comment on table properties is 'Flats and houses under management';
comment on column properties.name is 'What people call it, such as Flat 18, Boden House';

create table customers (
    id integer primary key,
    name text not null,
    payprop_id text unique,
    email text
);
comment on table customers is 'Tenants, and others who pay rent for a tenant';
comment on column customers.payprop_id is 'The tenant in PayProp; NULL for people PayProp does not know';

create table invoices (
    id integer primary key,
    lease_reference text not null unique,
    payprop_id text,
    property_id integer not null references properties (id),
    customer_id integer not null references customers (id),
    start_date date not null,
    end_date date,
    rent_amount numeric(10, 2) not null check (rent_amount > 0),
    frequency text not null default 'monthly',
    check (end_date >= start_date)
);
comment on table invoices is 'Leases: each row is the standing rent instruction of one lease';
comment on column invoices.lease_reference is 'Building, unit and year of the start, such as LEASE-BH-F18-2025';
comment on column invoices.payprop_id is
    'The rent instruction in PayProp. Not unique: a renewal may have kept the id of the lease before it';
comment on column invoices.end_date is 'Last day of the lease; NULL while it is ongoing';
comment on column invoices.rent_amount is 'Rent due for each period of the frequency';
comment on column invoices.frequency is 'How often the rent is due; monthly on the day of the month it started';

create index invoices_property_id_customer_id on invoices (property_id, customer_id);
create index invoices_customer_id on invoices (customer_id);
create index invoices_payprop_id on invoices (payprop_id);

create table historical_transactions (
    id integer primary key,
    transaction_date date not null,
    property_id integer references properties (id),
    customer_id integer references customers (id),
    amount numeric(10, 2) not null,
    category text not null,
    payprop_invoice_id text,
    invoice_id integer references invoices (id),
    lease_start_date date,
    lease_end_date date,
    lease_rent_amount numeric(10, 2),
    description text
);
comment on table historical_transactions is 'Money received and paid out, entered by hand and from statements';
comment on column historical_transactions.customer_id is 'Who paid; NULL where the statement does not say';
comment on column historical_transactions.category is 'rent, deposit, maintenance or commission; only rent is linked';
comment on column historical_transactions.payprop_invoice_id is 'invoices.payprop_id as the payment quoted it';
comment on column historical_transactions.invoice_id is 'The lease the payment belongs to; NULL until it is linked';
comment on column historical_transactions.lease_start_date is 'Start of the lease when the payment was linked';
comment on column historical_transactions.lease_end_date is
    'End of the lease when the payment was linked; NULL where it was ongoing or the payment is not linked';
comment on column historical_transactions.lease_rent_amount is 'Rent of the lease when the payment was linked';

create index historical_transactions_invoice_id on historical_transactions (invoice_id);
create index historical_transactions_property_id on historical_transactions (property_id);
create index historical_transactions_customer_id on historical_transactions (customer_id);
create index historical_transactions_transaction_date on historical_transactions (transaction_date);

create table financial_transactions (
    id integer primary key,
    transaction_date date not null,
    property_id integer references properties (id),
    customer_id integer references customers (id),
    amount numeric(10, 2) not null,
    category text not null,
    payprop_invoice_id text,
    invoice_id integer references invoices (id),
    lease_start_date date,
    lease_end_date date,
    lease_rent_amount numeric(10, 2),
    description text
);
comment on table financial_transactions is 'Rent payments as they are imported';
comment on column financial_transactions.property_id is 'NULL where the import could not tell the property';
comment on column financial_transactions.customer_id is 'Who paid; NULL where the import does not say';
comment on column financial_transactions.category is 'What the money is; every row imported so far is rent';
comment on column financial_transactions.payprop_invoice_id is 'invoices.payprop_id as the payment quoted it';
comment on column financial_transactions.invoice_id is 'The lease the payment belongs to; NULL until it is linked';
comment on column financial_transactions.lease_start_date is 'Start of the lease when the payment was linked';
comment on column financial_transactions.lease_end_date is
    'End of the lease when the payment was linked; NULL where it was ongoing or the payment is not linked';
comment on column financial_transactions.lease_rent_amount is 'Rent of the lease when the payment was linked';

create index financial_transactions_invoice_id on financial_transactions (invoice_id);
create index financial_transactions_property_id on financial_transactions (property_id);
create index financial_transactions_customer_id on financial_transactions (customer_id);
create index financial_transactions_transaction_date on financial_transactions (transaction_date);
