-- Ready to use on the legacy CRM and HubSpot (CRM-10): who is who, side by side, both ids as text.
-- `recon match crm` fills schema staging anew; what a person must confirm (proposed) is not matched yet.

SELECT 'company' AS object, legacy_company_id AS legacy_id, hubspot_company_id AS hubspot_id, legacy_name, hubspot_name,
    match_confidence
FROM staging.companies_reconciliation
WHERE reconciliation_status = 'matched'
UNION ALL
SELECT 'contact', legacy_contact_id, hubspot_contact_id, legacy_name, hubspot_name, match_confidence
FROM staging.contacts_reconciliation
WHERE reconciliation_status = 'matched'
UNION ALL
SELECT 'deal', legacy_deal_id, hubspot_deal_id, legacy_name, hubspot_name, match_confidence
FROM staging.deals_reconciliation
WHERE reconciliation_status = 'matched'
UNION ALL
SELECT 'communication', legacy_communication_id, hubspot_communication_id, legacy_name, hubspot_name, match_confidence
FROM staging.communications_reconciliation
WHERE reconciliation_status = 'matched'
ORDER BY object, legacy_id;
