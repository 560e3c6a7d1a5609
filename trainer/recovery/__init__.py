"""Take back the shards that a change of membership lost, from the nearest source that is whole."""
