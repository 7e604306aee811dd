"""The legacy CRM beside HubSpot: companies, contacts, deals and communications, and the clients that are theirs alone."""
