"""Plant files that ship with the product; read them with workshop_brain.config."""
