//! The envelope's `Data` and `Metadata` for messages of a Service Bus queue (functions-host.md §2.5, §2.6).

use super::{
    leak,
    values::{Members, bytes, date, date_with_offset, in_text, precise},
};
use crate::sandbox::service_bus::{Delivery, Session};
use serde_json::{Value, json};

/// What the trigger says about itself.
#[derive(Clone, Copy)]
pub(super) struct Shape {
    pub(super) many: bool,
    pub(super) binary: bool,
}

/// The trigger's value in `Data`, and its metadata without `sys`.
pub(super) fn of(
    deliveries: &[Delivery],
    session: Option<&Session>,
    shape: Shape,
    namespace: &str,
    client: &str,
) -> (Value, Members) {
    let mut metadata = Members::default();
    for name in ["MessageReceiver", "MessageSession", "MessageActions", "SessionActions"] {
        let told = session.map_or_else(
            || json!({}),
            |session| json!({ "SessionLockedUntil": format!("{}+00:00", precise(session.locked_until)) }),
        );
        metadata.set(name, told);
    }
    metadata.set("ReceiveActions", json!({}));
    metadata.set(
        "Client",
        json!({
            "FullyQualifiedNamespace": namespace,
            "IsClosed": false,
            "TransportType": 0,
            "Identifier": client,
        }),
    );
    if shape.many {
        return (many(deliveries, shape.binary, &mut metadata), metadata);
    }
    let Some(delivery) = deliveries.first() else { return (Value::Null, metadata) };
    one(delivery, &mut metadata);
    let data = if shape.binary {
        bytes(&delivery.message.body)
    } else {
        let text = delivery.message.text();
        leak::apply(&text, &mut metadata);
        in_text(text)
    };
    (data, metadata)
}

fn one(delivery: &Delivery, metadata: &mut Members) {
    let message = &delivery.message;
    metadata.set("DeliveryCount", in_text(delivery.delivery_count));
    metadata.set("SequenceNumber", in_text(message.sequence_number));
    metadata.set("LockToken", in_text(delivery.lock.token.to_string()));
    metadata.set("EnqueuedTimeUtc", date(message.enqueued_at));
    metadata.set("EnqueuedTime", date_with_offset(message.enqueued_at));
    metadata.set("ExpiresAtUtc", date(message.expires_at));
    metadata.set("ExpiresAt", date_with_offset(message.expires_at));
    let properties = &message.properties.application_properties;
    metadata.set("ApplicationProperties", properties.clone().into());
    metadata.set("UserProperties", properties.clone().into());
    for (name, value) in texts(delivery) {
        if let Some(value) = value {
            metadata.set(name, in_text(value));
        }
    }
}

fn many(deliveries: &[Delivery], binary: bool, metadata: &mut Members) -> Value {
    let mut set = |name: &str, each: &dyn Fn(&Delivery) -> Value| {
        let all: Vec<Value> = deliveries.iter().map(each).collect();
        metadata.set(&format!("{name}Array"), in_text(all));
    };
    set("DeliveryCount", &|delivery| delivery.delivery_count.into());
    set("SequenceNumber", &|delivery| delivery.message.sequence_number.into());
    set("LockToken", &|delivery| delivery.lock.token.to_string().into());
    set("EnqueuedTimeUtc", &|delivery| precise(delivery.message.enqueued_at).into());
    set("EnqueuedTime", &|delivery| with_offset(precise(delivery.message.enqueued_at)));
    set("ExpiresAtUtc", &|delivery| precise(delivery.message.expires_at).into());
    set("ExpiresAt", &|delivery| with_offset(precise(delivery.message.expires_at)));
    for name in ["ApplicationProperties", "UserProperties"] {
        set(name, &|delivery| delivery.message.properties.application_properties.clone().into());
    }
    let names = deliveries.first().map(|first| texts(first).map(|(name, _)| name));
    for (index, name) in names.into_iter().flatten().enumerate() {
        set(name, &|delivery| texts(delivery)[index].1.into());
    }
    // The extension fills this one from the wrong property.
    set("TransactionPartitionKey", &|delivery| {
        delivery.message.properties.partition_key.as_deref().into()
    });
    let bodies: Vec<Value> = deliveries
        .iter()
        .map(|delivery| match binary {
            true => bytes(&delivery.message.body),
            false => delivery.message.text().into(),
        })
        .collect();
    in_text(bodies)
}

fn with_offset(date: String) -> Value {
    format!("{date}+00:00").into()
}

/// The properties that are text and may be missing.
fn texts(delivery: &Delivery) -> [(&'static str, Option<&str>); 12] {
    let message = &delivery.message;
    let properties = &message.properties;
    [
        ("MessageId", properties.message_id.as_deref()),
        ("SessionId", properties.session_id.as_deref()),
        ("CorrelationId", properties.correlation_id.as_deref()),
        ("Subject", properties.label.as_deref()),
        ("Label", properties.label.as_deref()),
        ("ContentType", properties.content_type.as_deref()),
        ("ReplyTo", properties.reply_to.as_deref()),
        ("To", properties.to.as_deref()),
        ("ReplyToSessionId", properties.reply_to_session_id.as_deref()),
        ("PartitionKey", properties.partition_key.as_deref()),
        ("TransactionPartitionKey", properties.transaction_partition_key.as_deref()),
        ("DeadLetterSource", message.dead_letter_source.as_deref()),
    ]
}
