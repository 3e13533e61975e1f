"""From any source to three splits of uint8 images and int32 labels."""
