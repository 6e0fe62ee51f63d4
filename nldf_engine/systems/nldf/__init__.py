"""Neural light dynamic fields: a light field distilled from a radiance field."""
