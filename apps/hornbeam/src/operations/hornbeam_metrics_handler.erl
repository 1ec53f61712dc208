%% The page of metrics, for scrapers: a resource of cowboy_rest, which refuses other methods (405)
%% and finds out which format is wanted.
-module(hornbeam_metrics_handler).

-export([init/2, allowed_methods/2, content_types_provided/2, to_text/2]).
-export([to_open_metrics/2]).

%% @private
-spec init(cowboy_req:req(), State) -> {cowboy_rest, cowboy_req:req(), State}.
init(Req, State) ->
    {cowboy_rest, Req, State}.

%% @private
-spec allowed_methods(cowboy_req:req(), State) -> {[binary()], cowboy_req:req(), State}.
allowed_methods(Req, State) ->
    {[<<"GET">>, <<"HEAD">>], Req, State}.

%% @private
-spec content_types_provided(cowboy_req:req(), State) ->
    {[{{binary(), binary(), '*'}, atom()}], cowboy_req:req(), State}.
content_types_provided(Req, State) ->
    {[{{<<"text">>, <<"plain">>, '*'}, to_text},
      {{<<"application">>, <<"openmetrics-text">>, '*'}, to_open_metrics}], Req, State}.

%% @private
-spec to_text(cowboy_req:req(), State) -> {iodata(), cowboy_req:req(), State}.
to_text(Req, State) ->
    {hornbeam_metrics:text(), of_type(hornbeam_exposition:text_type(), Req), State}.

%% @private
-spec to_open_metrics(cowboy_req:req(), State) -> {iodata(), cowboy_req:req(), State}.
to_open_metrics(Req, State) ->
    {hornbeam_metrics:open_metrics(), of_type(hornbeam_exposition:open_metrics_type(), Req), State}.

of_type(Type, Req) ->
    cowboy_req:set_resp_header(<<"content-type">>, Type, Req).
