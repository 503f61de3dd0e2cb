"""A server for tests that reads HTTP/1.1 with h11, strictly, and says on its standard output, a line of JSON each, what came:
requests that it could read, and what was none. Each line of its standard input it says again, behind all that it has said
before. It ends with its standard input."""

import json
import os
import socket
import sys
import threading

import h11

LOCK = threading.Lock()


def say(kind, **fields):
    say_line(json.dumps({kind: fields}))


def say_line(line):
    with LOCK:
        print(line, flush=True)


def serve(stream, number):
    connection = h11.Connection(h11.SERVER)
    came = b""
    target = None
    try:
        while True:
            request, body = read_request(connection, stream)
            if request is None:
                return
            target = text(request.target)
            answer(connection, stream, number, request, body)
            target = None
            if connection.our_state is h11.MUST_CLOSE:
                return
            connection.start_next_cycle()
    except Cut as cut:
        say("unfinished", connection=number, target=cut.target)
    except h11.RemoteProtocolError as error:
        rest = connection.trailing_data[0]
        say("wrong", connection=number, reason=str(error), bytes=text(bytes(rest)))
    except OSError:
        if target is not None:
            say("unfinished", connection=number, target=target)
    finally:
        stream.close()


class Cut(Exception):
    def __init__(self, target):
        self.target = target


def read_request(connection, stream):
    request, body = None, b""
    while True:
        event = connection.next_event()
        if event is h11.NEED_DATA:
            if connection.they_are_waiting_for_100_continue:
                stream.sendall(connection.send(h11.InformationalResponse(status_code=100, headers=[])))
            bytes_read = receive(stream)
            if not bytes_read and (request is not None or connection.trailing_data[0]):
                raise Cut(text(request.target) if request is not None else "")
            connection.receive_data(bytes_read)
        elif isinstance(event, h11.Request):
            request = event
        elif isinstance(event, h11.Data):
            body += bytes(event.data)
        elif isinstance(event, h11.EndOfMessage):
            return request, body
        else:
            return None, b""


def receive(stream):
    try:
        return stream.recv(65536)
    except ConnectionResetError:
        return b""


def answer(connection, stream, number, request, body):
    headers = [(text(name), text(value)) for name, value in request.headers]
    say("request", connection=number, method=text(request.method), target=text(request.target), headers=headers,
        body=text(body))
    page = b"%s %s %d" % (request.method, request.target, len(body))
    response = h11.Response(status_code=200, headers=[("Content-Length", str(len(page)))])
    parts = [connection.send(response)]
    if request.method != b"HEAD":
        parts.append(connection.send(h11.Data(data=page)))
    parts.append(connection.send(h11.EndOfMessage()))
    stream.sendall(b"".join(parts))


def text(value):
    return bytes(value).decode("latin-1")


def hear_the_test():
    for line in sys.stdin:
        say_line(line.rstrip("\n"))
    os._exit(0)


def main():
    listener = socket.create_server(("127.0.0.1", 0), backlog=1024)
    address, port = listener.getsockname()
    print(f"listening {address}:{port}", flush=True)
    threading.Thread(target=hear_the_test, daemon=True).start()
    number = 0
    while True:
        stream, _ = listener.accept()
        stream.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        number += 1
        threading.Thread(target=serve, args=(stream, number), daemon=True).start()


main()
