-- Ready to use on the legacy CRM and HubSpot (CRM-10): how many records of each object are matched, proposed, ambiguous,
-- unmatched, or in HubSpot only.

SELECT object, reconciliation_status, count(*) AS records
FROM (
    SELECT 'company' AS object, reconciliation_status FROM staging.companies_reconciliation
    UNION ALL
    SELECT 'contact', reconciliation_status FROM staging.contacts_reconciliation
    UNION ALL
    SELECT 'deal', reconciliation_status FROM staging.deals_reconciliation
    UNION ALL
    SELECT 'communication', reconciliation_status FROM staging.communications_reconciliation
) AS record
GROUP BY object, reconciliation_status
ORDER BY object, records DESC, reconciliation_status;
