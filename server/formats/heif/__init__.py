"""HEIF: the item tables of AVIF and HEIC, read within bounds before a decoder sees them (ISO/IEC 23008-12)."""
