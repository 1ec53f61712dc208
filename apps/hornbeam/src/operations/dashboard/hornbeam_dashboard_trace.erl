%% The messages of one connection as they come and go, as server-sent events, for a page that has
%% asked for them. It ends by itself, or with the page.
-module(hornbeam_dashboard_trace).

-export([init/2]).

-define(MESSAGES, 2000).
-define(SECONDS, 300).
%% Of each message.
-define(BODY, 1024).

%% @private
-spec init(cowboy_req:req(), State) -> {ok, cowboy_req:req(), State}.
init(Req, State) ->
    case hornbeam_dashboard_http:admit(<<"GET">>, Req) of
        {answered, Answered} -> {ok, Answered, State};
        {_, Admitted} -> {ok, trace(cowboy_req:binding(id, Req), Admitted), State}
    end.

trace(Text, Req) ->
    case hornbeam_dashboard_http:number(Text) of
        {ok, Id} -> trace_one(Id, Req);
        error -> cowboy_req:reply(404, #{}, <<>>, Req)
    end.

trace_one(Id, Req) ->
    Streamed = hornbeam_dashboard_http:stream(Req),
    Limits = #{messages => ?MESSAGES, seconds => ?SECONDS, bodies => bodies(Req)},
    Emit = fun(Note) -> send(<<"note">>, shown(Note), Streamed) end,
    Ended = case hornbeam_control_trace:run(Id, Limits, Emit) of
        {ok, #{ended := Why}} -> Why;
        {error, not_found} -> closed
    end,
    send(<<"ended">>, #{why => Ended}, Streamed),
    ok = cowboy_req:stream_body(<<>>, fin, Streamed),
    Streamed.

bodies(Req) ->
    case lists:keyfind(<<"bodies">>, 1, hornbeam_dashboard_http:query(Req)) of
        {_, <<"true">>} -> ?BODY;
        _ -> 0
    end.

send(Name, Term, Req) ->
    hornbeam_dashboard_http:event(Name, hornbeam_dashboard_http:text(Term), Req).

%% What is cut off within a character, or is no text, is shown by its bytes.
shown(#{body := Body} = Note) ->
    Note#{body := case unicode:characters_to_binary(Body) of
        Text when is_binary(Text) -> Text;
        {incomplete, Text, Rest} when byte_size(Rest) < 4, Text =/= <<>> -> Text;
        _ -> binary:encode_hex(Body)
    end}.
