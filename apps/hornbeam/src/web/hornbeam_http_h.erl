%% One HTTP exchange, in Cowboy's request process.
%%
%%   opened ──response_start──▶ responding ──the last part──▶ done
%%      │ no answer in time: 504     │ worker dead, app failed: the response is broken off
%%      │ worker dead: 502
%%      │ the server stops: 503
%%      └ app failed: 500
%%
%% The body of the request flows to the app while it gives credit; the body of the response
%% flows to the client, and the app gets credit for what has left.
-module(hornbeam_http_h).
-behaviour(cowboy_handler).

-export([init/2, respond/4]).

-record(exchange, {
    req :: cowboy_req:req(),
    stream :: hornbeam_stream:stream(),
    number :: pos_integer(),
    worker :: reference(),
    deadline :: reference() | undefined,
    responding = false :: boolean(),
    %% for whoever attached to the end of a request: when it began (µs), and what it was answered
    began = erlang:monotonic_time(microsecond) :: integer(),
    status = 0 :: non_neg_integer(),
    %% what the app may be sent of the request's body, and what waits for that
    credit = 0 :: integer(),
    waiting = [] :: [{cowboy_stream:fin(), binary()}],
    continue = false :: boolean(),
    %% what has left of the response and is not given back as credit
    sent = {0, 0} :: {Bytes :: non_neg_integer(), Messages :: non_neg_integer()}
}).

%% @private
-spec init(cowboy_req:req(), hornbeam_mounts:mount()) ->
    {ok, cowboy_req:req(), hornbeam_mounts:mount()}.
init(Req, #{counters := Counters} = Mount) ->
    case hornbeam_mounts:checkout(Mount) of
        {ok, Handle} ->
            hornbeam_counters:add(http_requests, Counters),
            {ok, serve(Handle, Req, Mount), Mount};
        unavailable ->
            {ok, hornbeam_response:refuse(503, Req), Mount}
    end.

serve(Handle, Req, #{options := #{timeout := Timeout}} = Mount) ->
    {IsFin, Body} = first_part(Req),
    Scope = hornbeam_scope:http(Req),
    Stream = hornbeam_stream:open(Handle, http, fun(Number) ->
        hornbeam_wire:open_http(Number, Scope, Body, IsFin =:= nofin)
    end),
    hornbeam_request_body:taken(byte_size(Body), Req),
    loop(#exchange{req = Req, stream = Stream, number = hornbeam_stream:number(Stream),
                   worker = hornbeam_stream:monitor(Stream), deadline = deadline(Timeout),
                   continue = IsFin =:= nofin andalso expects_continue(Req)},
         Mount).

%% @doc Answer with what the app has begun to say on a stream that the caller owns: a
%% WebSocket's denial response is an HTTP response.
-spec respond(hornbeam_wire:message(), hornbeam_stream:stream(), cowboy_req:req(),
              hornbeam_mounts:mount()) -> cowboy_req:req().
respond(Begun, Stream, Req, Mount) ->
    said({ok, Begun}, <<>>,
         #exchange{req = Req, stream = Stream, number = hornbeam_stream:number(Stream),
                   worker = hornbeam_stream:monitor(Stream)},
         Mount).

first_part(Req) ->
    case cowboy_req:has_body(Req) of
        true -> hornbeam_request_body:read(Req);
        false -> {fin, <<>>}
    end.

expects_continue(#{headers := #{<<"expect">> := Expect}}) ->
    cowboy_bstr:to_lower(Expect) =:= <<"100-continue">>;
expects_continue(_Req) ->
    false.

deadline(infinity) -> undefined;
deadline(Timeout) -> erlang:start_timer(Timeout, self(), first_byte).

loop(#exchange{number = Number, worker = Worker, deadline = Deadline} = Exchange, Mount) ->
    receive
        {stream, Number, Frame} ->
            said(hornbeam_answer:read(Frame), Frame, Exchange, Mount);
        {request_body, IsFin, Data} ->
            #exchange{waiting = Waiting} = Exchange,
            loop(forward(Exchange#exchange{waiting = Waiting ++ [{IsFin, Data}]}), Mount);
        {'DOWN', Worker, process, _, _} ->
            fail(502, Exchange);
        {timeout, Deadline, first_byte} ->
            #{counters := Counters} = Mount,
            hornbeam_counters:add(timeouts, Counters),
            fail(504, Exchange);
        going_away ->
            fail(503, Exchange)
    end.

said({ok, {response_start, _, Status, Headers, Body, More}}, _Frame,
     #exchange{responding = false, req = Req} = Exchange, Mount) ->
    cancel(Exchange),
    Last = hornbeam_mounts:last_if_shut(Mount, Req),
    Progress = hornbeam_response:start(Status, Headers, Body, More, Last),
    responded(Progress, Body, Exchange#exchange{responding = true, status = Status,
                                                deadline = undefined}, Mount);
said({ok, {response_body, _, Body, More}}, _Frame,
     #exchange{responding = true, req = Req} = Exchange, Mount) ->
    responded(hornbeam_response:part(Body, More, Req), Body, Exchange, Mount);
said({ok, {credit, _, Bytes, Messages}}, Frame, #exchange{credit = Before} = Exchange, Mount) ->
    #exchange{stream = Stream} = Exchange,
    Credit = Before + Bytes,
    hornbeam_stream:take_credit(Stream),
    case hornbeam_stream:is_within_window({Credit, Messages}) of
        true -> loop(forward(invite(Exchange#exchange{credit = Credit})), Mount);
        false -> violated(unearned_credit, Frame, Exchange)
    end;
said({ok, {ended, _, _, _, _}}, _Frame, Exchange, _Mount) ->
    fail(500, Exchange);
said(Wrong, Frame, Exchange, _Mount) ->
    violated(hornbeam_answer:fault(Wrong), Frame, Exchange).

violated(Reason, Frame, #exchange{stream = Stream} = Exchange) ->
    hornbeam_stream:violated(Stream, Reason, Frame),
    fail(500, Exchange).

cancel(#exchange{deadline = undefined}) ->
    ok;
cancel(#exchange{deadline = Deadline}) ->
    _ = erlang:cancel_timer(Deadline),
    ok.

responded({done, Req}, _Body, #exchange{worker = Worker, status = Status} = Exchange, _Mount) ->
    erlang:demonitor(Worker, [flush]),
    tell(Status, true, Exchange),
    Req;
responded({more, Req}, Body, #exchange{sent = {Bytes, Messages}} = Exchange, Mount) ->
    Sent = {Bytes + byte_size(Body), Messages + 1},
    IsDue = hornbeam_stream:is_due(Sent),
    loop(repay(IsDue, Sent, Exchange#exchange{req = Req}), Mount).

repay(true, {Bytes, Messages}, #exchange{stream = Stream} = Exchange) ->
    hornbeam_stream:credit(Stream, Bytes, Messages),
    Exchange#exchange{sent = {0, 0}};
repay(false, Sent, Exchange) ->
    Exchange#exchange{sent = Sent}.

%% The app asks for the body: that is the moment to say so to a client that waits to be asked.
invite(#exchange{continue = true, responding = false, req = Req} = Exchange) ->
    ok = cowboy_req:inform(100, Req),
    Exchange#exchange{continue = false};
invite(Exchange) ->
    Exchange.

forward(#exchange{waiting = [{IsFin, Data} | Waiting], credit = Credit} = Exchange)
        when Credit > 0 ->
    #exchange{stream = Stream, number = Number, req = Req} = Exchange,
    hornbeam_stream:write(Stream, hornbeam_wire:request_body(Number, Data, IsFin =:= nofin)),
    hornbeam_request_body:taken(byte_size(Data), Req),
    forward(Exchange#exchange{waiting = Waiting, credit = Credit - byte_size(Data)});
forward(Exchange) ->
    Exchange.

fail(Status, #exchange{responding = false, req = Req} = Exchange) ->
    cancel(Exchange),
    tell(Status, true, Exchange),
    hornbeam_response:refuse(Status, Req);
fail(_Status, #exchange{req = Req, status = Status} = Exchange) ->
    tell(Status, false, Exchange),
    hornbeam_response:break(Req).

tell(Status, IsWhole, #exchange{req = #{method := Method, path := Path}, began = Began}) ->
    hornbeam_telemetry:execute(
        [hornbeam, http, stop],
        #{microseconds => erlang:monotonic_time(microsecond) - Began},
        #{method => Method, path => Path, status => Status, whole => IsWhole}).
