-- The payment history of each tenant: every rent payment linked to a lease of theirs, whoever paid it (INV-17).
-- $1: payments after this day are left out (date; NULL: today). In psql: put \bind '2025-11-30' \g in the place of
-- the last semicolon, or write the day in the place of $1.
-- The lease's terms are those that were kept on the payment when it was linked.
SELECT
    invoices.customer_id, tenants.name AS tenant,
    payment.id AS payment_id, payment.transaction_date, payment.amount,
    sum(payment.amount) OVER (
        PARTITION BY invoices.customer_id ORDER BY payment.transaction_date, payment.id
    ) AS received_so_far,
    payment.invoice_id, invoices.lease_reference,
    payment.lease_start_date, payment.lease_end_date, payment.lease_rent_amount,
    payment.customer_id AS paid_by_id, payers.name AS paid_by, payment.description
FROM historical_transactions AS payment
JOIN invoices ON invoices.id = payment.invoice_id
LEFT JOIN customers AS tenants ON tenants.id = invoices.customer_id
LEFT JOIN customers AS payers ON payers.id = payment.customer_id
WHERE payment.category = 'rent' AND payment.transaction_date <= coalesce($1::date, current_date)
ORDER BY tenants.name, invoices.customer_id, payment.transaction_date, payment.id;
