%% The transport of Cowboy (ranch_transport), as far as it uses it: the socket of the connection in
%% whose process it is called. Over HTTP/2 another process reads what comes (hornbeam_http2_reader);
%% over HTTP/1.1 what Cowboy reads without an end is bounded (hornbeam_cowboy:reading/0).
-module(hornbeam_cowboy_transport).

-export([name/0, secure/0, messages/0]).
-export([peername/1, sockname/1, getstat/2, getopts/2, setopts/2]).
-export([send/2, sendfile/4, shutdown/2, close/1]).

%% @private
-spec name() -> atom().
name() -> (transport()):name().

%% @private Where it is not, Cowboy lets a client go on with HTTP/2 in the midst of a connection:
%% that would be past its reader.
-spec secure() -> boolean().
secure() ->
    (transport()):secure() orelse hornbeam_cowboy:reader() =:= none.

%% @private
-spec messages() -> tuple().
messages() ->
    case hornbeam_cowboy:reader() of
        none -> (transport()):messages();
        _Reader -> hornbeam_http2_reader:messages()
    end.

%% @private
-spec peername(term()) -> {ok, term()} | {error, term()}.
peername(_Socket) -> hornbeam_endpoints:peername(hornbeam_cowboy:socket()).

%% @private
-spec sockname(term()) -> {ok, term()} | {error, term()}.
sockname(_Socket) -> hornbeam_endpoints:sockname(hornbeam_cowboy:socket()).

%% @private
-spec getstat(term(), [atom()]) -> {ok, list()} | {error, term()}.
getstat(Socket, Options) -> (transport()):getstat(Socket, Options).

%% @private
-spec getopts(term(), [atom()]) -> {ok, list()} | {error, term()}.
getopts(Socket, Options) -> (transport()):getopts(Socket, Options).

%% @private
-spec setopts(term(), list()) -> ok | {error, term()}.
setopts(Socket, Options) ->
    case hornbeam_cowboy:reader() of
        none ->
            hornbeam_cowboy:reading(),
            (transport()):setopts(Socket, Options);
        Reader -> hornbeam_http2_reader:set_options(Reader, Options)
    end.

%% @private
-spec send(term(), iodata()) -> ok | {error, term()}.
send(Socket, Data) -> (transport()):send(Socket, Data).

%% @private
-spec sendfile(term(), file:name_all(), non_neg_integer(), non_neg_integer()) ->
    {ok, non_neg_integer()} | {error, term()}.
sendfile(Socket, File, Offset, Bytes) -> (transport()):sendfile(Socket, File, Offset, Bytes).

%% @private What comes after our last word is read away.
-spec shutdown(term(), read | write | read_write) -> ok | {error, term()}.
shutdown(Socket, How) ->
    hornbeam_cowboy:unbound(),
    (transport()):shutdown(Socket, How).

%% @private
-spec close(term()) -> ok.
close(Socket) -> (transport()):close(Socket).

transport() ->
    {Transport, _Socket} = hornbeam_cowboy:socket(),
    Transport.
