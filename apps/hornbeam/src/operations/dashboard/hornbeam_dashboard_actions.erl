%% What the live page has a server do: close a connection, load the code anew, run more workers or
%% fewer. Each was asked for and confirmed by somebody who has the page open.
-module(hornbeam_dashboard_actions).

-include_lib("kernel/include/logger.hrl").

-export([init/2]).

-define(LONGEST, 4096).

%% @private
-spec init(cowboy_req:req(), State) -> {ok, cowboy_req:req(), State}
    when State :: hornbeam_control_requests:start().
init(Req, Start) ->
    case hornbeam_dashboard_http:admit(<<"POST">>, Req) of
        {answered, Answered} ->
            {ok, Answered, Start};
        {_, Admitted} ->
            %% Before all else: what is not read costs the client its connection.
            {Fields, Read} = hornbeam_dashboard_http:body(?LONGEST, Admitted),
            IsOwn = hornbeam_dashboard_http:is_own_action(Read),
            {ok, checked(IsOwn, maps:from_list(Fields), Read, Start), Start}
    end.

checked(false, _Fields, Req, _Start) ->
    refuse(403, "this is no action of the page's own; load it anew", Req);
checked(true, Fields, Req, Start) ->
    act(action(cowboy_req:binding(action, Req), Fields), Req, Start).

%% Numbers are what they are to be; all else is judged by who does it.
action(<<"kick">>, #{<<"id">> := Id}) ->
    {<<"kick">>, #{<<"id">> => number(Id), <<"reason">> => <<"closed by an operator">>}};
action(<<"reload">>, #{<<"path">> := Path}) ->
    {<<"reload">>, #{<<"path">> => Path}};
action(<<"workers">>, #{<<"path">> := Path, <<"workers">> := Workers}) ->
    {<<"workers">>, #{<<"path">> => Path, <<"workers">> => number(Workers)}};
action(_Action, _Fields) ->
    unknown.

number(Text) ->
    case hornbeam_dashboard_http:number(Text) of
        {ok, Number} -> Number;
        error -> Text
    end.

act(unknown, Req, _Start) ->
    refuse(400, "the page knows no such action", Req);
act({Name, Args}, Req, Start) ->
    %% A reload takes as long as the app takes to start.
    cowboy_req:cast({set_options, #{idle_timeout => infinity}}, Req),
    ?LOG_NOTICE(#{what => asked_by_dashboard, action => Name, arguments => Args},
                #{domain => [hornbeam]}),
    case hornbeam_control_requests:perform(Name, Args, fun(_Item) -> ok end, Start) of
        {ok, _} -> hornbeam_dashboard_http:json(200, #{done => true}, Req);
        {error, Sentence} -> refuse(409, Sentence, Req)
    end.

refuse(Status, Sentence, Req) ->
    Text = unicode:characters_to_binary(Sentence),
    hornbeam_dashboard_http:json(Status, #{error => Text}, Req).
