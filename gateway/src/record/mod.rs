//! The recorder: every byte of both directions, after masking, into signed chunks by way of a local spool.
