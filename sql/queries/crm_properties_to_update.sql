-- Ready to use on the legacy CRM and HubSpot (CRM-10): what HubSpot would be told, newest first. One line for each record,
-- with the properties that differ and the value of the legacy CRM.

SELECT object, hubspot_id, legacy_id, hubspot_name, properties_to_update, last_updated
FROM (
    SELECT 'company' AS object, hubspot_company_id AS hubspot_id, legacy_company_id AS legacy_id, hubspot_name,
        properties_to_update, last_updated
    FROM staging.companies_reconciliation
    WHERE reconciliation_status = 'matched'
    UNION ALL
    SELECT 'contact', hubspot_contact_id, legacy_contact_id, hubspot_name, properties_to_update, last_updated
    FROM staging.contacts_reconciliation
    WHERE reconciliation_status = 'matched'
    UNION ALL
    SELECT 'deal', hubspot_deal_id, legacy_deal_id, hubspot_name, properties_to_update, last_updated
    FROM staging.deals_reconciliation
    WHERE reconciliation_status = 'matched'
    UNION ALL
    SELECT 'communication', hubspot_communication_id, legacy_communication_id, hubspot_name, properties_to_update,
        last_updated
    FROM staging.communications_reconciliation
    WHERE reconciliation_status = 'matched'
) AS record
WHERE properties_to_update <> '{}'
ORDER BY last_updated DESC, object, legacy_id;
