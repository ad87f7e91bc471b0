//! Delivery only: receivers, the durable outbox, retry, the message.
