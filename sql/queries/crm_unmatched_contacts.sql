-- Ready to use on the legacy CRM and HubSpot (CRM-10): legacy persons without a HubSpot contact, with names and e-mail.
-- Why each has none: `recon explain crm_contacts --key ID`.

SELECT contact.legacy_contact_id, person."Pers_FirstName" AS first_name, person."Pers_LastName" AS last_name,
    person."Pers_EmailAddress" AS email, company."Comp_Name" AS company, contact.last_updated
FROM staging.contacts_reconciliation AS contact
JOIN bronze.person AS person ON person."Pers_PersonId"::text = contact.legacy_contact_id
LEFT JOIN bronze.company AS company ON company."Comp_CompanyId" = person."Pers_CompanyId"
WHERE contact.reconciliation_status = 'unmatched'
ORDER BY person."Pers_LastName", person."Pers_FirstName", contact.legacy_contact_id;
