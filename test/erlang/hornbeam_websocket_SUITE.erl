%% The engine says what its handler commands, whatever stands before and behind it.
%%
%% This module is the handler too: a connection does what it is told by a message of commands.
-module(hornbeam_websocket_SUITE).

-include_lib("stdlib/include/assert.hrl").

-export([all/0, init_per_suite/1, end_per_suite/1]).
-export([a_finished_frame_is_said_wherever_it_stands/1, a_finished_frame_is_compressed/1]).
-export([init/2, websocket_init/1, websocket_handle/2, websocket_info/2, terminate/3]).

-define(PAYLOAD, <<"made once for many">>).

all() ->
    [a_finished_frame_is_said_wherever_it_stands, a_finished_frame_is_compressed].

init_per_suite(Config) ->
    {ok, _} = application:ensure_all_started(cowboy),
    Paths = [{"/plain", ?MODULE, {false, counters:new(1, [])}},
             {"/compress", ?MODULE, {true, counters:new(1, [])}}],
    Env = #{dispatch => cowboy_router:compile([{'_', Paths}])},
    {ok, _} = cowboy:start_clear(?MODULE, [{ip, {127, 0, 0, 1}}], #{env => Env}),
    [{port, ranch:get_port(?MODULE)} | Config].

end_per_suite(_Config) ->
    ok = cowboy:stop_listener(?MODULE).

a_finished_frame_is_said_wherever_it_stands(Config) ->
    {Socket, Connection} = connected("/plain", <<>>, Config),
    Finished = {finished, hornbeam_frame:new(text, ?PAYLOAD)},
    Said = hornbeam_frame:new(text, ?PAYLOAD),
    Awake = [{active, true}, {set_options, #{idle_timeout => infinity}}],
    [begin
         Connection ! Commands,
         ?assertEqual({Commands, Due}, {Commands, recv(Socket, byte_size(Due))})
     end || {Commands, Due} <- [
         {[Finished], Said},
         {[{text, <<"a">>}, Finished, {binary, <<"b">>}],
          <<129, 1, "a", Said/binary, 130, 1, "b">>},
         {[{active, true}, Finished], Said},
         {[{active, false}, Finished], Said},
         {[Finished | Awake] ++ [Finished, Finished], <<Said/binary, Said/binary, Said/binary>>}
     ]],
    ok = gen_tcp:close(Socket).

a_finished_frame_is_compressed(Config) ->
    Offer = <<"Sec-WebSocket-Extensions: permessage-deflate\r\n">>,
    {Socket, Connection} = connected("/compress", Offer, Config),
    Inflate = zlib:open(),
    ok = zlib:inflateInit(Inflate, -15),
    [begin
         Connection ! Commands,
         <<1:1, 1:1, 0:2, 1:4, 0:1, Length:7>> = recv(Socket, 2),
         Bytes = zlib:inflate(Inflate, [recv(Socket, Length), <<0, 0, 255, 255>>]),
         ?assertEqual(?PAYLOAD, iolist_to_binary(Bytes))
     end || Commands <- [[{finished, hornbeam_frame:new(text, ?PAYLOAD)}],
                         [{active, true}, {finished, hornbeam_frame:new(text, ?PAYLOAD)}]]],
    ok = gen_tcp:close(Socket).

connected(Path, Headers, Config) ->
    {ok, Socket} = gen_tcp:connect({127, 0, 0, 1}, proplists:get_value(port, Config),
                                   [binary, {active, false}]),
    ok = gen_tcp:send(Socket, ["GET ", Path, "?", pid_to_list(self()), " HTTP/1.1\r\n"
                               "Host: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n"
                               "Sec-WebSocket-Version: 13\r\n"
                               "Sec-WebSocket-Key: MDEyMzQ1Njc4OWFiY2RlZg==\r\n", Headers, "\r\n"]),
    head(Socket),
    receive
        {connection, Connection} -> {Socket, Connection}
    after 5000 ->
        error(no_connection)
    end.

head(Socket) ->
    head(Socket, <<>>).

head(Socket, Read) ->
    case binary:match(Read, <<"\r\n\r\n">>) of
        nomatch -> head(Socket, <<Read/binary, (recv(Socket, 1))/binary>>);
        _ -> <<"HTTP/1.1 101", _/binary>> = Read
    end.

recv(Socket, Size) ->
    {ok, Bytes} = gen_tcp:recv(Socket, Size, 5000),
    Bytes.

%% The handler.

init(#{qs := Test} = Req, {Compress, Counters}) ->
    Options = #{max_frame_size => 65536, max_frame_rate => infinity, idle_timeout => infinity,
                compress => Compress, counters => Counters},
    {hornbeam_websocket, Req, list_to_pid(binary_to_list(Test)), Options}.

websocket_init(Test) ->
    Test ! {connection, self()},
    {[], Test}.

websocket_handle(_Frame, Test) -> {[], Test}.

websocket_info(Commands, Test) -> {Commands, Test}.

terminate(_Reason, _Req, _Test) -> ok.
