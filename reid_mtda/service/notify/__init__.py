"""Events told to other systems: an outbox on disk, and those who empty it: MQTT, webhooks, logs."""
