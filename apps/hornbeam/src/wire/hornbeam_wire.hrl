%% The codes of the messages, as docs/wire.md lists them, for modules that match on a code
%% without decoding the message.

-define(WIRE_VERSION, 1).

%% BEAM -> Python
-define(START, 1).
-define(OPEN_HTTP, 2).
-define(OPEN_WEBSOCKET, 3).
-define(REQUEST_BODY, 4).
-define(RECEIVE_TEXT, 5).
-define(RECEIVE_BYTES, 6).
-define(DISCONNECT, 7).
-define(ACCEPTED, 8).
-define(REPLY, 10).
-define(STOP, 11).
-define(EVENT, 12).
-define(CALL, 13).
-define(MORE, 14).
-define(CANCEL, 15).
-define(MOVE, 17).
-define(REOPEN_WEBSOCKET, 18).
-define(FLUSH, 19).
-define(TELL_FAILED, 20).
-define(REFUSED, 21).

%% both ways
-define(CREDIT, 9).
-define(HEARTBEAT, 16).

%% Python -> BEAM
-define(HELLO, 33).
-define(READY, 34).
-define(FAILED, 35).
-define(RESPONSE_START, 36).
-define(RESPONSE_BODY, 37).
-define(ACCEPT, 38).
-define(SEND_TEXT, 39).
-define(SEND_BYTES, 40).
-define(CLOSE, 41).
-define(ENDED, 42).
-define(LOG, 43).
-define(OP, 44).
-define(STOPPED, 45).
-define(RESULT, 46).
-define(ITEM, 47).
-define(MOVED, 49).
-define(FLUSHED, 50).
-define(MULTICAST_TEXT, 51).
-define(MULTICAST_BYTES, 52).
-define(TELL, 53).
-define(EVENT_STREAM, 54).
-define(RESPONSE, 55).
