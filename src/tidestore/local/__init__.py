"""All of tidestore on one machine: a real Kafka, store servers, gateway and workers."""
