"""Evidence on disk, and recorded evidence."""
