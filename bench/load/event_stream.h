/* A client's side of an event stream (HTML, 9.2) over HTTP/1.1: ask for one, and read its events out
 * of a body in chunks, however these cut them.
 * Knows nothing of what the events mean or of how they are timed. */
#ifndef EVENT_STREAM_H
#define EVENT_STREAM_H

#include "websocket.h"

/* What has come of a stream beside its inbox: of the chunk that is being read, and the text of events
 * that are not whole. */
struct event_stream {
    size_t left; /* bytes of the chunk's data and the line end behind it; 0: its size comes next */
    char *text;
    size_t length, room;
};

/* Both halves of a request on a connection that waits, as of a WebSocket's upgrade. Fails for any other
 * response. */
void event_stream_ask(struct connection *c, const char *host, int port, const char *path);
void event_stream_await_head(struct connection *c);

/* As websocket_receive: the data of each whole event is handed over as a text frame. Comments and
 * fields other than data are passed over; data of several lines fails. */
int event_stream_receive(struct inbox *in, struct event_stream *events, frame_handler handle,
                         void *owner);

#endif
