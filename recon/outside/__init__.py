"""Systems outside of the database: how they are asked over HTTP, and what one must be able to do to be read or written."""
