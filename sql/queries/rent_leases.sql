-- The leases and their terms: what rent_due_and_received.sql counts from. No parameter.
-- A lease whose frequency is not monthly, or which has no first day (-infinity), is not counted there. An end of
-- infinity is that of an ongoing lease: NULL.
SELECT
    invoices.id AS invoice_id, invoices.lease_reference,
    invoices.property_id, properties.name AS property_name, invoices.customer_id, customers.name AS tenant,
    invoices.start_date, nullif(invoices.end_date, 'infinity') AS end_date,
    invoices.rent_amount::numeric(14, 2) AS rent_amount, invoices.frequency
FROM invoices
LEFT JOIN properties ON properties.id = invoices.property_id
LEFT JOIN customers ON customers.id = invoices.customer_id
ORDER BY invoices.lease_reference, invoices.id;
