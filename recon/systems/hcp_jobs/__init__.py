"""HousecallPro jobs to reservations: where jobs are fetched from, and the Airtable base that holds the links too."""
