//! How texts and figures of the model look in the OpenAPI document, where the types of the API hold them as they are.

use super::caller::Role;
use super::recent::Position;
use super::stamp::Stamp;
use crate::manager::Figures;
use crate::model::{ContentHash, Kind, Level, Mode, Side, Span, Summary};
use crate::store::{AuditHead, Sizes};
use crate::usage::Metric;
use serde::Serialize;
use serde_json::Value;
use utoipa::openapi::RefOr;
use utoipa::openapi::schema::{ArrayBuilder, KnownFormat, Object, ObjectBuilder, Schema, SchemaFormat, Type};
use utoipa::{PartialSchema, ToSchema};

type Found = RefOr<Schema>;

/// A text of this form.
fn text(about: &str, pattern: &str, example: &str) -> Found {
    let text = ObjectBuilder::new().schema_type(Type::String).description(Some(about)).pattern(Some(pattern));
    text.examples([example]).build().into()
}

/// One of these words.
fn words<T: Serialize>(about: &str, words: impl IntoIterator<Item = T>) -> Found {
    let words = words.into_iter().map(|word| serde_json::to_value(word).unwrap_or_default());
    ObjectBuilder::new().schema_type(Type::String).description(Some(about)).enum_values(Some(words)).build().into()
}

/// An object whose fields are of the same types as those of this one. All are always there.
fn like<T: Serialize>(about: &str, example: &T) -> Found {
    let fields = serde_json::to_value(example).unwrap_or_default();
    let mut object = ObjectBuilder::new().schema_type(Type::Object).description(Some(about));
    for (name, value) in fields.as_object().into_iter().flatten() {
        let kind = |kind: Type| -> Found { Object::with_type(kind).into() };
        let field: Found = match value {
            Value::Number(number) if number.is_f64() => kind(Type::Number),
            Value::Number(_) => kind(Type::Integer),
            Value::Array(_) => ArrayBuilder::new().items(kind(Type::String)).build().into(),
            _ => kind(Type::String),
        };
        object = object.property(name, field).required(name);
    }
    object.build().into()
}

macro_rules! look {
    ($($type:ty => $schema:expr;)*) => {$(
        impl PartialSchema for $type {
            fn schema() -> Found {
                $schema
            }
        }
        impl ToSchema for $type {}
    )*};
}

look! {
    Span => text("A length of time.", "^([0-9]{1,6}(ms|s|m|h|d)){1,4}$", "5m");
    Position => text("A record's place in the journal: its batch, and its number there.", "^[0-9]{1,18}([.][0-9]{1,9})?$", "1207.3");
    Stamp => ObjectBuilder::new()
        .schema_type(Type::String)
        .format(Some(SchemaFormat::KnownFormat(KnownFormat::DateTime)))
        .description(Some("An instant of the plane's clock, in UTC."))
        .build()
        .into();
    Mode => words("How far the plane may go.", [Mode::Observe, Mode::Advise, Mode::Act]);
    Level => words("How loud.", [Level::Info, Level::Warning, Level::Alarm]);
    Kind => words("A kind of element.", [Kind::Plane, Kind::Host, Kind::Vm, Kind::Disk, Kind::Nic, Kind::App]);
    Side => words("Which end of a migration the plane is.", [Side::Source, Side::Target]);
    Metric => words("What is measured.", Metric::ALL.iter().map(|(metric, ..)| *metric));
    Role => words("What somebody may do; each may do what those before it may.", [Role::Viewer, Role::Operator, Role::Admin]);
    Sizes => like(
        "What a store takes.",
        &Sizes { file_bytes: Some(0), journal_bytes: 0, audit_bytes: 0 },
    );
    AuditHead => like("An audit entry's number and hash.", &AuditHead { number: 0, hash: ContentHash([0; 32]) });
    Figures => like("Counts since the daemon started.", &Figures::default());
    Summary => like("What a plane has to give.", &Summary::default());
}
