-- Ready to use on the reservations of Stays (RES-03): what could not be brought in and why, the oldest first. An issue is
-- closed by the next run after it was mended.

SELECT
    issue.source_key[1] AS organization_id,
    issue.source_key[2] AS platform,
    issue.source_key[3] AS external_id,
    issue.issue,
    landed.problem,
    landed.listing_id,
    landed.check_in,
    landed.check_out,
    landed.status,
    issue.first_seen,
    issue.last_seen
FROM recon.import_issues AS issue
LEFT JOIN bronze.stays_reservations AS landed
    ON landed.organization_id::text = issue.source_key[1]
    AND landed.platform = issue.source_key[2]
    AND landed.external_id = issue.source_key[3]
WHERE issue.reconciliation = 'stays_reservations' AND issue.state = 'open'
ORDER BY issue.first_seen, organization_id, platform, external_id, issue.issue;
