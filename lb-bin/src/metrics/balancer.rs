//! Metrics of the balancer as a whole, and of its certificates.

use lb_core::{CertificateStatus, Status};

use super::reloads::ReloadCounts;
use super::text::{Kind, Labels, Subject, Text};

pub(super) fn write(text: &mut Text, status: &Status, reloads: ReloadCounts) {
    let build = [Subject::new((), Labels::default().and("version", env!("CARGO_PKG_VERSION")))];
    text.family(Kind::Info, "lb_build_info", "What runs.", &build, |(), samples| samples.info(&Labels::default()));
    let balancer = [Subject::new(status, Labels::default())];
    text.gauge("lb_open_connections", "Connections now.", &balancer, |status| status.connections);
    text.gauge("lb_max_connections", "Most connections at once.", &balancer, |status| status.max_connections);
    let help = "Connections now that still live on a replaced or removed address.";
    text.gauge("lb_replaced_address_connections", help, &balancer, |status| status.connections_on_replaced);
    let help = "Access records that were dropped, because they were not written in time.";
    text.counter("lb_access_records_dropped_total", help, &balancer, |status| status.access_dropped);
    changes(text, &balancer);
    reload(text, reloads);
    certificates(text, &status.certificates);
}

fn changes(text: &mut Text, balancer: &[Subject<&Status>]) {
    text.gauge("lb_config_revision", "The revision in effect.", balancer, |status| status.revision);
    let help = "When the last change was confirmed, in seconds since 1970; the start counts as one.";
    text.gauge("lb_config_last_applied_timestamp_seconds", help, balancer, |status| status.changes.last_applied);
    let help = "Changes, by what became of them. Dry runs are not counted.";
    text.family(Kind::Counter, "lb_config_changes_total", help, balancer, |status, samples| {
        samples.labelled("outcome", "applied", status.changes.applied);
        samples.labelled("outcome", "refused", status.changes.refused);
    });
}

fn reload(text: &mut Text, reloads: ReloadCounts) {
    let reloads = [Subject::new(reloads, Labels::default())];
    let help = "Reloads of the configuration file by SIGHUP, by what became of them.";
    text.family(Kind::Counter, "lb_config_reloads_total", help, &reloads, |reloads, samples| {
        samples.labelled("outcome", "applied", reloads.applied);
        samples.labelled("outcome", "refused", reloads.refused);
    });
    let help = "0 if the last reload was refused, else 1.";
    text.gauge("lb_config_last_reload_successful", help, &reloads, |reloads| u8::from(!reloads.was_last_refused));
}

fn certificates(text: &mut Text, certificates: &[CertificateStatus]) {
    let all = Subject::each(certificates, |of| Labels::default().and("certificate", &of.name));
    text.family(Kind::Info, "lb_certificate_info", "A certificate, or a bundle.", &all, |of, samples| {
        let labels = Labels::default().and("kind", &of.kind).and("subject", &of.subject);
        samples.info(&labels.and("issuer", &of.issuer).and("key", &of.key));
    });
    let help = "When a certificate expires, in seconds since 1970; of several, the first that does.";
    text.gauge("lb_certificate_not_after_timestamp_seconds", help, &all, |of| of.not_after);
}
