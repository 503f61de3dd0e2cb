//! Changing some settings of a server or a frontend: which ones, to what, and what is said of it.

use std::fmt::{self, Display};
use std::marker::PhantomData;
use std::net::IpAddr;
use std::num::NonZeroU32;
use std::str::FromStr;

use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use super::certificate::NONE;
use super::{
    AlpnName, Bind, Check, ClientAuth, CookieSettings, Delay, Frontend, HttpSettings, Invalid, IpPersistence, Millis,
    Name, Network, OnUnavailable, PassiveConnections, PassiveUse, PassiveWhen, Percent, PolicyKind, Port, Protocol,
    SendProxy, Server, ServerCheck, ServerNameText, SniRoute, Weight, check_ip,
};

/// A setting that may be missing, in an update: written as its text or as in the configuration, or `"none"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum OrNone<T> {
    /// It is taken away.
    None,
    /// It is set to this.
    Some(T),
}

impl<T> From<Option<T>> for OrNone<T> {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::None, Self::Some)
    }
}

impl<T> From<OrNone<T>> for Option<T> {
    fn from(value: OrNone<T>) -> Self {
        match value {
            OrNone::None => None,
            OrNone::Some(value) => Some(value),
        }
    }
}

impl<T: FromStr<Err = Invalid>> FromStr for OrNone<T> {
    type Err = Invalid;

    fn from_str(text: &str) -> Result<Self, Invalid> {
        match text {
            NONE => Ok(Self::None),
            text => text.parse().map(Self::Some),
        }
    }
}

impl<T: Display> Serialize for OrNone<T> {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::None => serializer.serialize_str(NONE),
            Self::Some(value) => serializer.collect_str(value),
        }
    }
}

impl<'de, T: FromStr<Err = Invalid> + Deserialize<'de>> Deserialize<'de> for OrNone<T> {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(OrNoneVisitor(PhantomData))
    }
}

/// Reads a text, or where it has fields the value as it is in the configuration.
struct OrNoneVisitor<T>(PhantomData<T>);

impl<'de, T: FromStr<Err = Invalid> + Deserialize<'de>> Visitor<'de> for OrNoneVisitor<T> {
    type Value = OrNone<T>;

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("text in quotes")
    }

    fn visit_str<E: serde::de::Error>(self, text: &str) -> Result<OrNone<T>, E> {
        text.parse().map_err(|invalid: Invalid| E::custom(invalid.reason))
    }

    fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<OrNone<T>, A::Error> {
        T::deserialize(MapAccessDeserializer::new(map)).map(OrNone::Some)
    }
}

/// Makes the type of an update from the settings that are simply replaced: those that may be missing (`optional`), lists,
/// and `plain` ones; beside those that are `special`.
macro_rules! update {
    (
        $(#[$meta:meta])*
        $update:ident of $whole:ident {
            special { $($(#[$special_meta:meta])* $special:ident: $special_type:ty,)* }
            optional { $($(#[$optional_meta:meta])* $optional:ident: $optional_type:ty,)* }
            lists { $($(#[$list_meta:meta])* $list:ident: $list_type:ty,)* }
            plain { $($(#[$plain_meta:meta])* $plain:ident: $plain_type:ty,)* }
        }
    ) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
        #[serde(deny_unknown_fields, default)]
        #[allow(missing_docs, reason = "the fields are those of the settings that they change")]
        pub struct $update {
            $(#[serde(skip_serializing_if = "Option::is_none")] $(#[$special_meta])* pub $special: Option<$special_type>,)*
            $(#[serde(skip_serializing_if = "Option::is_none")] $(#[$plain_meta])* pub $plain: Option<$plain_type>,)*
            $(
                #[serde(skip_serializing_if = "Option::is_none")]
                $(#[$optional_meta])*
                pub $optional: Option<OrNone<$optional_type>>,
            )*
            $(#[serde(skip_serializing_if = "Option::is_none")] $(#[$list_meta])* pub $list: Option<Vec<$list_type>>,)*
        }

        impl $update {
            fn apply_plain(&self, whole: &mut $whole) {
                $(if let Some(value) = &self.$plain {
                    whole.$plain = value.clone();
                })*
                $(if let Some(value) = &self.$optional {
                    whole.$optional = value.clone().into();
                })*
                $(if let Some(value) = &self.$list {
                    whole.$list.clone_from(value);
                })*
            }

            fn between_plain(from: &$whole, to: &$whole) -> Self {
                Self {
                    $($plain: changed(&from.$plain, &to.$plain),)*
                    $($optional: changed(&from.$optional, &to.$optional).map(OrNone::from),)*
                    $($list: changed(&from.$list, &to.$list),)*
                    ..Self::default()
                }
            }

            fn describe_plain(old: &$whole, new: &$whole, differences: &mut Differences) {
                $(differences.field(stringify!($plain), &old.$plain, &new.$plain);)*
                $(differences.field(stringify!($optional), &shown(&old.$optional), &shown(&new.$optional));)*
                $(differences.field(stringify!($list), &shown_list(&old.$list), &shown_list(&new.$list));)*
            }
        }
    };
}

update! {
    /// The settings of a server to change; `None` leaves a setting as it is.
    ServerUpdate of Server {
        special {
            rename: Name,
            ip: IpAddr,
            /// Most connections at once; 0 takes the limit away.
            max_connections: u32,
            /// What cookies know it by. A server that is only renamed keeps it.
            identity: Name,
        }
        optional {
            server_certificate: Name,
            server_name: ServerNameText,
            client_certificate: Name,
            group: Name,
        }
        lists {}
        plain {
            port: Port,
            weight: Weight,
            passive: bool,
            check: ServerCheck,
            ssl_offload: bool,
            verify_name: bool,
            send_proxy: SendProxy,
        }
    }
}

update! {
    /// The settings of a frontend to change; `None` leaves a setting as it is.
    FrontendUpdate of Frontend {
        special {
            rename: Name,
            /// Most connections at once; 0 takes the limit away.
            max_connections: u32,
        }
        optional {
            client_ca: Name,
            ip_persistence: IpPersistence,
        }
        lists {
            certificates: Name,
            alpn: AlpnName,
            sni_routes: SniRoute,
            accept_proxy_from: Network,
        }
        plain {
            bind: Bind,
            protocol: Protocol,
            policy: PolicyKind,
            connect_timeout: Millis,
            redispatch_timeout: Millis,
            idle_timeout: Millis,
            queue: u32,
            queue_timeout: Millis,
            on_unavailable: OnUnavailable,
            check: Check,
            slow_start: Delay,
            eject_after: u32,
            eject_time: Millis,
            eject_time_max: Millis,
            max_ejected: Percent,
            passive_use: PassiveUse,
            passive_when: PassiveWhen,
            passive_connections: PassiveConnections,
            fail_back_after: Delay,
            client_auth: ClientAuth,
            handshake_timeout: Millis,
            max_handshakes: NonZeroU32,
            cookie_persistence: bool,
            cookie: CookieSettings,
            http: HttpSettings,
        }
    }
}

impl Server {
    /// The same server with other settings.
    ///
    /// # Errors
    /// An address that can't be connected to.
    pub fn with(mut self, update: &ServerUpdate) -> Result<Self, Invalid> {
        update.apply_plain(&mut self);
        let identity = update.identity.as_ref().unwrap_or(self.identity()).clone();
        self.name = update.rename.clone().unwrap_or(self.name);
        self = self.with_identity(identity);
        self.ip = update.ip.map(check_ip).transpose()?.unwrap_or(self.ip);
        self.max_connections = limit(update.max_connections, self.max_connections);
        Ok(self)
    }
}

impl ServerUpdate {
    /// What leads from one server's settings to another's; whether it drains or is disabled is no setting.
    pub(crate) fn between(from: &Server, to: &Server) -> Self {
        Self {
            rename: changed(&from.name, &to.name),
            ip: changed(&from.ip, &to.ip),
            identity: changed(from.identity(), to.identity()),
            max_connections: changed(&from.max_connections, &to.max_connections).map(Option::unwrap_or_default),
            ..Self::between_plain(from, to)
        }
    }

    /// `field old → new` for each setting that differs.
    pub(crate) fn describe(old: &Server, new: &Server) -> String {
        let mut differences = Differences::default();
        differences.field("name", &old.name, &new.name);
        differences.field("ip", &old.ip, &new.ip);
        differences.field("identity", old.identity(), new.identity());
        differences.field("max_connections", &shown(&old.max_connections), &shown(&new.max_connections));
        Self::describe_plain(old, new, &mut differences);
        differences.0.join(", ")
    }
}

impl Frontend {
    /// The same frontend with other settings.
    #[must_use]
    pub fn with(mut self, update: &FrontendUpdate) -> Self {
        update.apply_plain(&mut self);
        self.name = update.rename.clone().unwrap_or(self.name);
        self.max_connections = limit(update.max_connections, self.max_connections);
        self
    }
}

impl FrontendUpdate {
    /// What leads from one frontend's settings to another's.
    pub(crate) fn between(from: &Frontend, to: &Frontend) -> Self {
        Self {
            rename: changed(&from.name, &to.name),
            max_connections: changed(&from.max_connections, &to.max_connections).map(Option::unwrap_or_default),
            ..Self::between_plain(from, to)
        }
    }

    /// `field old → new` for each setting that differs.
    pub(crate) fn describe(old: &Frontend, new: &Frontend) -> String {
        let mut differences = Differences::default();
        differences.field("name", &old.name, &new.name);
        differences.field("max_connections", &shown(&old.max_connections), &shown(&new.max_connections));
        Self::describe_plain(old, new, &mut differences);
        differences.0.join(", ")
    }
}

/// `Some(to)` where it differs from `from`.
fn changed<T: PartialEq + Clone>(from: &T, to: &T) -> Option<T> {
    (from != to).then(|| to.clone())
}

fn limit(update: Option<u32>, present: Option<u32>) -> Option<u32> {
    match update {
        None => present,
        Some(0) => None,
        limit => limit,
    }
}

fn shown<T: Display>(value: &Option<T>) -> String {
    value.as_ref().map_or(NONE.to_owned(), ToString::to_string)
}

fn shown_list<T: Display>(values: &[T]) -> String {
    match values {
        [] => NONE.to_owned(),
        values => values.iter().map(ToString::to_string).collect::<Vec<_>>().join(" "),
    }
}

#[derive(Default)]
struct Differences(Vec<String>);

impl Differences {
    fn field<T: PartialEq + ToString>(&mut self, field: &str, old: &T, new: &T) {
        if old != new {
            self.0.push(format!("{field} {} → {}", old.to_string(), new.to_string()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> Name {
        Name::new(name).unwrap()
    }

    fn server() -> Server {
        Server::new("a", ([127, 0, 0, 1], 80).into()).unwrap()
    }

    fn tls_server() -> Server {
        server()
            .with_ssl_offload(true)
            .with_server_certificate(Some(name("ca")))
            .with_server_name(Some("a.example"))
            .unwrap()
            .with_verify_name(false)
            .with_client_certificate(Some(name("own")))
            .with_send_proxy(SendProxy::V2)
            .with_group(Some(name("blue")))
            .unwrap()
    }

    fn frontend() -> Frontend {
        Frontend::new("web", Bind::Addr(([127, 0, 0, 1], 80).into())).unwrap()
    }

    fn tls_frontend() -> Frontend {
        let timeout = Millis::from_duration_clamped(std::time::Duration::from_secs(1));
        frontend()
            .with_certificates(vec![name("site"), name("other")])
            .with_alpn(vec!["h2".parse().unwrap()])
            .with_client_ca(Some(name("ca")), ClientAuth::Optional)
            .with_handshakes(timeout, 7)
            .with_sni_routes(vec![SniRoute::new(vec!["*.a.com".parse().unwrap()], name("blue")).unwrap()])
            .with_accept_proxy_from(vec!["10.0.0.0/8".parse().unwrap()])
    }

    #[test]
    fn what_lies_between_two_servers_leads_from_one_to_the_other_even_when_written() {
        for (from, to) in [(server(), tls_server()), (tls_server(), server())] {
            let update = ServerUpdate::between(&from, &to);
            let written = serde_json::to_string(&update).unwrap();
            let read: ServerUpdate = serde_json::from_str(&written).unwrap();
            assert_eq!(read, update, "{written}");
            assert_eq!(from.with(&read).unwrap(), to);
        }
        let described = ServerUpdate::describe(&tls_server(), &server());
        assert!(described.contains("server_certificate ca → none, server_name a.example → none"), "{described}");
        assert!(described.contains("verify_name false → true"), "{described}");
    }

    #[test]
    fn what_lies_between_two_frontends_leads_from_one_to_the_other_even_when_written() {
        for (from, to) in [(frontend(), tls_frontend()), (tls_frontend(), frontend())] {
            let update = FrontendUpdate::between(&from, &to);
            let written = serde_json::to_string(&update).unwrap();
            let read: FrontendUpdate = serde_json::from_str(&written).unwrap();
            assert_eq!(read, update, "{written}");
            assert_eq!(from.with(&read), to);
        }
        let described = FrontendUpdate::describe(&frontend(), &tls_frontend());
        for part in ["certificates none → site other", "client_ca none → ca", "sni_routes none → *.a.com=blue"] {
            assert!(described.contains(part), "{described}");
        }
    }

    #[test]
    fn a_frontend_without_its_servers_has_all_its_settings() {
        let with = tls_frontend().with_server(server());
        assert_eq!(with.without_servers(), tls_frontend());
    }
}
