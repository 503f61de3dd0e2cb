//! Metrics of shards.

use lb_core::ShardStatus;

use super::text::{Kind, Labels, Subject, Text};

pub(super) fn write(text: &mut Text, shards: &[ShardStatus]) {
    let subject = |(number, of)| Subject::new(of, Labels::default().and("shard", number));
    let all: Vec<Subject<&ShardStatus>> = shards.iter().enumerate().map(subject).collect();
    text.family(Kind::Info, "lb_shard_info", "A shard.", &all, |of, samples| {
        samples.info(&Labels::default().and("core", of.core));
    });
    text.gauge("lb_shard_revision", "The revision that a shard uses.", &all, |of| of.revision);
    text.gauge("lb_shard_open_connections", "Connections now.", &all, |of| of.connections);
    text.counter("lb_shard_connections_total", "Connections accepted.", &all, |of| of.accepted);
    load(text, &all);
    memory(text, &all);
}

fn load(text: &mut Text, all: &[Subject<&ShardStatus>]) {
    text.counter("lb_shard_cpu_seconds_total", "CPU time of a shard's thread.", all, |of| of.cpu_micros as f64 / 1e6);
    let help = "The share of the last full second in which a shard's thread ran.";
    text.gauge("lb_shard_busy_ratio", help, all, |of| of.busy);
    text.counter("lb_shard_turns_total", "Turns of a shard's loop; each is a system call.", all, |of| of.turns);
    let help = "Completions of a shard's ring that were looked at.";
    text.counter("lb_shard_completions_total", help, all, |of| of.completions);
    let help = "Completions that the kernel had to put on its slow overflow list.";
    text.counter("lb_shard_completion_overflows_total", help, all, |of| of.completion_overflows);
    let help = "Completions for connections that were gone: always 0 unless there is a bug.";
    text.counter("lb_shard_stale_completions_total", help, all, |of| of.stale_completions);
}

fn memory(text: &mut Text, all: &[Subject<&ShardStatus>]) {
    text.gauge("lb_shard_buffers_in_use", "Relay buffers that hold bytes.", all, |of| of.buffers_in_use);
    text.gauge("lb_shard_buffer_bytes", "User memory of relay buffers.", all, |of| of.buffer_bytes);
    let help = "Pipes that are open for splicing, of two descriptors each.";
    text.gauge("lb_shard_pipes", help, all, |of| of.pipes);
    let help = "Connections to servers that wait for a request.";
    text.gauge("lb_shard_pooled_connections", help, all, |of| of.pooled);
    let help = "Sockets to servers whose connection is over, kept to be connected anew.";
    text.gauge("lb_shard_kept_sockets", help, all, |of| of.kept_sockets);
}
