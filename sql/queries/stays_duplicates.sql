-- Ready to use on reservations (RES-14): those of one organization with the same property, check-in and check-out, cancelled
-- ones left out; each later one beside the earliest. `recon match stays_duplicates` proposes the same to people.

WITH alike AS (
    SELECT
        reservations.*,
        row_number() OVER stay AS place,
        first_value(id) OVER stay AS earliest_id
    FROM reservations
    WHERE status <> 'cancelled' AND property_id IS NOT NULL
    WINDOW stay AS (PARTITION BY organization_id, property_id, check_in, check_out ORDER BY created_at, id)
)
SELECT
    later.organization_id,
    properties.name AS property,
    later.check_in,
    later.check_out,
    earliest.id AS earliest_id,
    earliest.platform AS earliest_platform,
    earliest.external_id AS earliest_external_id,
    earliest.status AS earliest_status,
    later.id AS later_id,
    later.platform AS later_platform,
    later.external_id AS later_external_id,
    later.status AS later_status
FROM alike AS later
JOIN reservations AS earliest ON earliest.id = later.earliest_id
LEFT JOIN properties ON properties.id = later.property_id
WHERE later.place > 1
ORDER BY later.check_in, later.organization_id, property, later.created_at, later.id;
