"""Operations on images and their metadata that do not depend on a file format."""
