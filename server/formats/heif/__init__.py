"""HEIF: the item tables of AVIF and HEIC, validated before a decoder reads them (ISO/IEC 23008-12)."""
