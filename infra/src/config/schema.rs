//! The keys that a configuration may have. A test holds them against the structs they are read into.

/// What a value must be.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    Text,
    /// A whole number from 0.
    Number,
    Flag,
    Texts,
    /// `address:port`.
    Address,
    Link,
    Reference,
    OneOf(&'static [&'static str]),
    Table(&'static [Field]),
    /// A list of tables, at least one where it is required.
    Tables(&'static [Field]),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Field {
    pub name: &'static str,
    pub kind: Kind,
    pub required: bool,
}

const fn needed(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        required: true,
    }
}

const fn optional(name: &'static str, kind: Kind) -> Field {
    Field {
        name,
        kind,
        required: false,
    }
}

pub(super) const ROOT: &[Field] = &[
    needed("gateway", Kind::Table(GATEWAY)),
    needed("store", Kind::Table(STORE)),
    needed("postgres", Kind::Table(POSTGRES)),
    needed("http", Kind::Table(HTTP)),
    needed("policy", Kind::Table(POLICY)),
    needed("issuer", Kind::Tables(ISSUER)),
    needed("target", Kind::Tables(TARGET)),
    optional("limits", Kind::Table(LIMITS)),
    optional("mask", Kind::Table(MASK)),
    optional("bot", Kind::Table(BOT)),
];

const GATEWAY: &[Field] = &[
    needed("name", Kind::Text),
    needed("data_dir", Kind::Text),
    optional("spool_dir", Kind::Text),
    optional("log_json", Kind::Flag),
];

/// Which of them belong to which kind is said by the structs.
const STORE: &[Field] = &[
    needed("kind", Kind::OneOf(&["embedded", "aws"])),
    optional("table", Kind::Text),
    optional("bucket", Kind::Text),
    optional("operations_key", Kind::Text),
    optional("operations_keys_before", Kind::Texts),
    optional("sse_kms_key", Kind::Text),
    optional("object_lock_days", Kind::Number),
    optional("retention_tag", Kind::Text),
    optional("retention_days", Kind::Number),
];

const TLS: &[Field] = &[needed("certificate", Kind::Reference), needed("key", Kind::Reference)];

const POSTGRES: &[Field] = &[
    needed("listen", Kind::Address),
    needed("tls", Kind::Table(TLS)),
    optional("plaintext_on_loopback", Kind::Flag),
];

const HTTP: &[Field] = &[
    needed("listen", Kind::Address),
    optional("tls", Kind::Table(TLS)),
    needed("public_url", Kind::Link),
];

const POLICY: &[Field] = &[needed("path", Kind::Text)];

const ISSUER: &[Field] = &[
    needed("url", Kind::Link),
    needed("audiences", Kind::Texts),
    optional("authorized_parties", Kind::Texts),
    optional("machines_only", Kind::Flag),
    optional("groups_claim", Kind::Text),
    optional("name_claims", Kind::Texts),
    optional("clock_skew_seconds", Kind::Number),
    optional("algorithms", Kind::Texts),
    optional("ca", Kind::Reference),
    optional("client_id", Kind::Text),
    optional("client_secret", Kind::Reference),
    optional("login_client_id", Kind::Text),
    optional("scopes", Kind::Texts),
];

const TARGET: &[Field] = &[
    needed("name", Kind::Text),
    needed("kind", Kind::OneOf(&["postgres"])),
    optional("tags", Kind::Texts),
    needed("host", Kind::Text),
    optional("port", Kind::Number),
    needed("database", Kind::Text),
    needed("user", Kind::Text),
    needed("password", Kind::Reference),
    optional("tls", Kind::Table(UPSTREAM_TLS)),
];

const UPSTREAM_TLS: &[Field] = &[
    optional("mode", Kind::OneOf(&["verify-full", "disable"])),
    optional("ca", Kind::Reference),
    optional("server_name", Kind::Text),
];

const LIMITS: &[Field] = &[
    optional("connections_max", Kind::Number),
    optional("handshake_seconds_max", Kind::Number),
    optional("statement_bytes_max", Kind::Number),
    optional("message_bytes_max", Kind::Number),
    optional("hold_in_transaction_seconds_max", Kind::Number),
    optional("idle_seconds_max", Kind::Number),
    optional("spool_bytes_max", Kind::Number),
    optional("record_wait_seconds_max", Kind::Number),
    optional("drain_seconds_max", Kind::Number),
];

const BOT: &[Field] = &[
    needed("url", Kind::Link),
    needed("ring_key", Kind::Reference),
    optional("listen", Kind::Address),
    optional("tls", Kind::Table(TLS)),
    optional("link_hours_max", Kind::Number),
    optional("verified_email", Kind::Flag),
    optional("step_up_rules", Kind::Texts),
    optional("slack", Kind::Tables(SLACK)),
    optional("discord", Kind::Tables(DISCORD)),
    optional("route", Kind::Tables(ROUTE)),
];

const SLACK: &[Field] = &[
    needed("team", Kind::Text),
    optional("app", Kind::Text),
    needed("bot_token", Kind::Reference),
    optional("signing_secret", Kind::Reference),
    optional("app_token", Kind::Reference),
    optional("api_url", Kind::Link),
];

const DISCORD: &[Field] = &[
    needed("guild", Kind::Text),
    needed("application", Kind::Text),
    needed("public_key", Kind::Text),
    needed("bot_token", Kind::Reference),
    optional("long_lived", Kind::Flag),
    optional("api_url", Kind::Link),
];

const ROUTE: &[Field] = &[
    optional("targets", Kind::Texts),
    optional("rules", Kind::Texts),
    optional("groups", Kind::Texts),
    needed("channels", Kind::Texts),
    optional("direct", Kind::Flag),
    optional("remind_seconds", Kind::Number),
    optional("escalate", Kind::Table(ESCALATION)),
];

const ESCALATION: &[Field] = &[needed("after_seconds", Kind::Number), needed("channels", Kind::Texts)];

const MASK: &[Field] = &[optional("columns", Kind::Texts)];

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config;
    use serde::de::DeserializeOwned;
    use std::collections::BTreeSet;

    /// A struct says in its error what it knows: that is held against the table.
    fn check<T: DeserializeOwned>(fields: &[Field]) {
        let Err(error) = toml::from_str::<T>("zzz = 1") else {
            panic!("an unknown key was taken")
        };
        let known: BTreeSet<&str> = error.message().split('`').skip(3).step_by(2).collect();
        let table: BTreeSet<&str> = fields.iter().map(|field| field.name).collect();
        assert_eq!(table, known, "{error}");
    }

    #[test]
    fn the_table_of_keys_is_that_of_the_structs() {
        check::<config::Config>(ROOT);
        check::<config::Gateway>(GATEWAY);
        check::<config::AwsStore>(&STORE[1..]);
        check::<config::Tls>(TLS);
        check::<config::PostgresListener>(POSTGRES);
        check::<config::HttpListener>(HTTP);
        check::<config::Issuer>(ISSUER);
        check::<config::Target>(TARGET);
        check::<config::UpstreamTls>(UPSTREAM_TLS);
        check::<config::Limits>(LIMITS);
        check::<config::Bot>(BOT);
        check::<config::Slack>(SLACK);
        check::<config::Discord>(DISCORD);
        check::<config::Route>(ROUTE);
        check::<config::Escalation>(ESCALATION);
    }
}
