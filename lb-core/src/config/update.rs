//! Changing some settings of a server or a frontend: which ones, to what, and what is said of it.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::{
    Bind, Check, Delay, Frontend, Invalid, Millis, Name, OnUnavailable, PassiveConnections, PassiveUse, PassiveWhen,
    Percent, PolicyKind, Port, Server, ServerCheck, Weight, check_ip,
};

/// Makes the type of an update from the settings that are simply replaced, beside those that are `special`.
macro_rules! update {
    (
        $(#[$meta:meta])*
        $update:ident of $whole:ident {
            special { $($(#[$special_meta:meta])* $special:ident: $special_type:ty,)* }
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
        }

        impl $update {
            fn apply_plain(&self, whole: &mut $whole) {
                $(if let Some(value) = &self.$plain {
                    whole.$plain = value.clone();
                })*
            }

            fn between_plain(from: &$whole, to: &$whole) -> Self {
                Self { $($plain: changed(&from.$plain, &to.$plain),)* ..Self::default() }
            }

            fn describe_plain(old: &$whole, new: &$whole, differences: &mut Differences) {
                $(differences.field(stringify!($plain), &old.$plain, &new.$plain);)*
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
            /// The CA bundle's name, or `none`.
            server_certificate: Name,
        }
        plain {
            port: Port,
            weight: Weight,
            ssl_offload: bool,
            passive: bool,
            check: ServerCheck,
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
        plain {
            bind: Bind,
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
        }
    }
}

impl Server {
    /// The same server with other settings.
    ///
    /// # Errors
    /// An address that can't be connected to, or a setting that is not supported yet.
    pub fn with(mut self, update: &ServerUpdate) -> Result<Self, Invalid> {
        update.check_supported()?;
        update.apply_plain(&mut self);
        self.name = update.rename.clone().unwrap_or(self.name);
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
            max_connections: changed(&from.max_connections, &to.max_connections).map(Option::unwrap_or_default),
            ..Self::between_plain(from, to)
        }
    }

    /// `field old → new` for each setting that differs.
    pub(crate) fn describe(old: &Server, new: &Server) -> String {
        let mut differences = Differences::default();
        differences.field("name", &old.name, &new.name);
        differences.field("ip", &old.ip, &new.ip);
        differences.field("max_connections", &shown(old.max_connections), &shown(new.max_connections));
        Self::describe_plain(old, new, &mut differences);
        differences.0.join(", ")
    }

    fn check_supported(&self) -> Result<(), Invalid> {
        let is_named = self.server_certificate.as_ref().is_some_and(|name| name.as_str() != "none");
        let field = match self {
            Self { ssl_offload: Some(true), .. } => "ssl_offload",
            _ if is_named => "server_certificate",
            _ => return Ok(()),
        };
        Err(Invalid::new(field, format!("{field}: {}", super::NOT_SUPPORTED)))
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
        differences.field("max_connections", &shown(old.max_connections), &shown(new.max_connections));
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

fn shown(limit: Option<u32>) -> String {
    limit.map_or("none".to_owned(), |limit| limit.to_string())
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
