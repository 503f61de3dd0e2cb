//! A server in a process of its own, at the IP address of its second argument or 127.0.0.1. Says where it listens and serves
//! until its standard input ends, which it does with the test that started it.
#![forbid(unsafe_code)]

use std::io::{self, ErrorKind, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use socket2::SockRef;

fn main() -> io::Result<()> {
    let role = std::env::args().nth(1).unwrap_or_default();
    let ip = std::env::args().nth(2).unwrap_or_else(|| "127.0.0.1".to_owned());
    let listener = TcpListener::bind((ip.as_str(), 0))?;
    SockRef::from(&listener).listen(4096)?;
    println!("{}", listener.local_addr()?);
    thread::spawn(end_with_the_test);
    match role.as_str() {
        "echo" => echo(&listener),
        "deaf" => hold(&listener),
        other => Err(io::Error::other(format!("unknown role {other:?}: echo or deaf"))),
    }
}

fn end_with_the_test() {
    let _ = io::stdin().read_to_end(&mut Vec::new());
    std::process::exit(0);
}

/// Serves thousands of clients from one thread, by asking each in turn.
fn echo(listener: &TcpListener) -> io::Result<()> {
    listener.set_nonblocking(true)?;
    let mut streams = Vec::new();
    loop {
        let before = streams.len();
        accept_waiting(listener, &mut streams)?;
        let mut busy = streams.len() > before;
        streams.retain_mut(|stream| match echo_waiting(stream) {
            Turn::Echoed => {
                busy = true;
                true
            }
            Turn::Idle => true,
            Turn::Closed => false,
        });
        if !busy {
            thread::sleep(Duration::from_millis(5));
        }
    }
}

enum Turn {
    Echoed,
    Idle,
    Closed,
}

fn accept_waiting(listener: &TcpListener, streams: &mut Vec<TcpStream>) -> io::Result<()> {
    loop {
        match listener.accept() {
            Ok((stream, _)) => {
                stream.set_nonblocking(true)?;
                streams.push(stream);
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error),
        }
    }
}

fn echo_waiting(stream: &mut TcpStream) -> Turn {
    let mut chunk = [0; 1024];
    match stream.read(&mut chunk) {
        Ok(0) => Turn::Closed,
        Ok(count) => match stream.write_all(&chunk[..count]) {
            Ok(()) => Turn::Echoed,
            Err(_) => Turn::Closed,
        },
        Err(error) if error.kind() == ErrorKind::WouldBlock => Turn::Idle,
        Err(_) => Turn::Closed,
    }
}

fn hold(listener: &TcpListener) -> io::Result<()> {
    let mut streams = Vec::new();
    loop {
        streams.push(listener.accept()?);
    }
}
