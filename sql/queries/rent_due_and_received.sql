-- Rent due and rent received, per lease and month, with arrears and running balance (INV-17).
-- $1: the day as of which to count (date; NULL: today). $2: one lease, by invoices.id (NULL: every lease); with it,
-- the rows are that lease's monthly statement. In psql: put \bind '2025-11-30' '' \g in the place of the last semicolon,
-- or write the day and the lease in the place of $1 and $2.
--
-- DUE comes from the lease alone: its start, its end and its monthly rent. A whole month is the monthly rent; a part
-- month is the rent × days covered ÷ days of that month, rounded to pennies, half a penny up. Covered are the days from
-- the start to the end, both included, but none after the day $1: an ongoing lease is due up to that day.
-- RECEIVED comes from the rent payments linked to the lease, by the month of their date. Arrears = DUE − RECEIVED of
-- the month; the balance adds them up: above zero is owed, below zero is paid ahead.
-- Leases that are not monthly, or have no first day (-infinity), are left out; rent_leases.sql names them. An end of
-- infinity is that of an ongoing lease.
WITH asked AS (
    SELECT coalesce($1::date, current_date) AS as_of, nullif($2::text, '')::bigint AS lease
),
leases AS (
    SELECT
        invoices.id AS invoice_id, invoices.lease_reference, invoices.property_id, invoices.customer_id,
        invoices.start_date, nullif(invoices.end_date, 'infinity') AS end_date,
        invoices.rent_amount::numeric(14, 2) AS rent_amount,
        least(invoices.end_date, asked.as_of) AS last_day -- least() passes over NULL, which is an ongoing lease
    FROM invoices
    CROSS JOIN asked
    WHERE invoices.frequency = 'monthly' AND isfinite(invoices.start_date)
        AND (asked.lease IS NULL OR invoices.id = asked.lease)
),
received AS (
    SELECT
        payment.invoice_id, date_trunc('month', payment.transaction_date::timestamp)::date AS month,
        sum(payment.amount) AS received
    FROM historical_transactions AS payment
    CROSS JOIN asked
    WHERE payment.category = 'rent' AND payment.transaction_date <= asked.as_of
        AND isfinite(payment.transaction_date)
    GROUP BY 1, 2
),
months AS (
    SELECT leases.invoice_id, covered.first_day::date AS month
    FROM leases
    CROSS JOIN LATERAL generate_series(
        date_trunc('month', leases.start_date::timestamp), leases.last_day::timestamp, interval '1 month'
    ) AS covered (first_day)
    WHERE leases.start_date <= leases.last_day
    UNION
    SELECT received.invoice_id, received.month FROM received -- deposits and late payments fall outside the lease
),
calendar AS (
    SELECT
        months.invoice_id, months.month,
        (months.month + interval '1 month' - interval '1 day')::date AS month_end
    FROM months
),
days AS (
    SELECT
        leases.*, calendar.month,
        calendar.month_end - calendar.month + 1 AS days_in_month,
        greatest(
            0, least(leases.last_day, calendar.month_end) - greatest(leases.start_date, calendar.month) + 1
        ) AS days_covered
    FROM calendar
    JOIN leases USING (invoice_id)
),
charged AS (
    SELECT
        days.*,
        round(days.rent_amount * days.days_covered / days.days_in_month, 2) AS due,
        coalesce(received.received, 0) AS received
    FROM days
    LEFT JOIN received USING (invoice_id, month)
)
SELECT
    charged.invoice_id, charged.lease_reference,
    charged.property_id, properties.name AS property_name, charged.customer_id, customers.name AS tenant,
    charged.month, charged.start_date, charged.end_date, charged.rent_amount,
    charged.days_covered, charged.days_in_month, charged.due, charged.received,
    charged.due - charged.received AS arrears,
    sum(charged.due - charged.received) OVER (PARTITION BY charged.invoice_id ORDER BY charged.month) AS balance
FROM charged
LEFT JOIN properties ON properties.id = charged.property_id
LEFT JOIN customers ON customers.id = charged.customer_id
ORDER BY charged.lease_reference, charged.invoice_id, charged.month;
