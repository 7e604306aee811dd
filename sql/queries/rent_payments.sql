-- Ready to use on the rent payments (INV-15): is everything linked, and is it linked right?
-- Each query stands alone. The last two give no row when all is well.

-- How many rent payments are linked, and how many are not.
SELECT count(invoice_id) AS linked, count(*) - count(invoice_id) AS unlinked
FROM historical_transactions
WHERE category = 'rent';

-- Rent payments by lease: how many, how much, from when to when.
SELECT invoices.lease_reference, count(*) AS payments, sum(payment.amount) AS received,
    min(payment.transaction_date) AS first_paid, max(payment.transaction_date) AS last_paid
FROM historical_transactions AS payment
JOIN invoices ON invoices.id = payment.invoice_id
WHERE payment.category = 'rent'
GROUP BY invoices.lease_reference
ORDER BY invoices.lease_reference;

-- Rent payments without a lease.
SELECT id, transaction_date, property_id, customer_id, amount, payprop_invoice_id
FROM historical_transactions
WHERE category = 'rent' AND invoice_id IS NULL
ORDER BY transaction_date;

-- Links that are present but wrong: another property, another tenant without the lease's PayProp id, no such lease.
SELECT payment.id, payment.property_id, payment.customer_id, invoices.id AS invoice_id, invoices.lease_reference
FROM historical_transactions AS payment
LEFT JOIN invoices ON invoices.id = payment.invoice_id
WHERE payment.category = 'rent' AND payment.invoice_id IS NOT NULL AND (
    invoices.id IS NULL
    OR payment.property_id <> invoices.property_id
    OR (payment.customer_id <> invoices.customer_id
        AND payment.payprop_invoice_id IS DISTINCT FROM invoices.payprop_id)
)
ORDER BY payment.id;
