%% The headers that the server adds to every response: its name, the date, and those of the option
%% `headers'. An app's own of the same name stands in their place.
%%
%% They are a persistent term: what is refused at the door belongs to no request.
-module(hornbeam_own_headers).

-export([set/1, lines/1, missing/1, withheld/0, has_request_id/0]).

-define(KEY, ?MODULE).
-define(REQUEST_ID, {?MODULE, request_id}).

%% Whether there is a date, and the others with their lines.
-type own() :: {HasDate :: boolean(), [{Name :: binary(), Value :: binary(), Line :: binary()}]}.

-define(NAMED, #{headers => [], server_header => true, date_header => true}).

%% @doc Add these from now on.
-spec set(hornbeam_config:server_options()) -> ok.
set(Options) ->
    persistent_term:put(?REQUEST_ID, maps:get(request_id, Options)),
    persistent_term:put(?KEY, own(Options)).

%% @doc Whether each response has the id of its request.
-spec has_request_id() -> boolean().
has_request_id() ->
    persistent_term:get(?REQUEST_ID, false).

-spec own(#{headers := hornbeam_headers:fields(), server_header := boolean(),
            date_header := boolean(), _ => _}) -> own().
own(#{headers := Headers, server_header := HasServer, date_header := HasDate}) ->
    Server = [{<<"server">>, <<"hornbeam">>}
              || HasServer, not lists:keymember(<<"server">>, 1, Headers)],
    {HasDate andalso not lists:keymember(<<"date">>, 1, Headers),
     [{Name, Value, <<Name/binary, ": ", Value/binary, "\r\n">>}
      || {Name, Value} <- Server ++ Headers]}.

-spec own() -> own().
own() ->
    case persistent_term:get(?KEY, undefined) of
        undefined -> own(?NAMED);
        Own -> Own
    end.

%% @doc Those that a response lacks, as lines of HTTP/1.1.
-spec lines(hornbeam_headers:fields()) -> iodata().
lines(Fields) ->
    {HasDate, Own} = own(),
    [date_line(HasDate, Fields) | [Line || {Name, _Value, Line} <- Own, lacks(Name, Fields)]].

date_line(HasDate, Fields) ->
    case HasDate andalso lacks(<<"date">>, Fields) of
        true -> [<<"date: ">>, hornbeam_date:now(), <<"\r\n">>];
        false -> []
    end.

%% @doc Those that a response lacks, as fields.
-spec missing(hornbeam_headers:fields()) -> hornbeam_headers:fields().
missing(Fields) ->
    {HasDate, Own} = own(),
    [{<<"date">>, hornbeam_date:now()} || HasDate, lacks(<<"date">>, Fields)]
        ++ [{Name, Value} || {Name, Value, _Line} <- Own, lacks(Name, Fields)].

lacks(Name, Fields) -> not lists:keymember(Name, 1, Fields).

%% @doc The names that no response is to have in the server's name.
-spec withheld() -> [binary()].
withheld() ->
    {HasDate, Own} = own(),
    Given = [<<"date">> || HasDate] ++ [Name || {Name, _, _} <- Own],
    [<<"date">>, <<"server">>] -- Given.
