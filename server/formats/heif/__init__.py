"""HEIF: the item tables of AVIF and HEIC, read and bounded before a decoder sees them (ISO/IEC 23008-12)."""
