-- Where other replicas reach this one, and the SHA-256 of the certificate it shows them.
ALTER TABLE replica ADD COLUMN address TEXT;
ALTER TABLE replica ADD COLUMN fingerprint TEXT;
