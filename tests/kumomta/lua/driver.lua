--[[
Lets a test drive sidecar.lua: a line of JSON in, what to do; a line of JSON out, the result.

argv: the folder of this file, the folder of sidecar.lua.
]]
package.path = arg[1] .. '/?.lua;' .. arg[2] .. '/?.lua;' .. package.path
local cjson = require 'cjson'
local kumo = require 'kumo'

local files = {}

-- In place of KumoMTA's own helper: an answer that shows whence it came.
package.preload['policy-extras.listener_domains'] = function()
  local helper = {}
  function helper:setup(names)
    return function(domain)
      if names[1] == 'broken.toml' then
        error 'cannot read broken.toml'
      end
      table.insert(files, domain)
      return kumo.make_listener_domain { relay_to = domain == 'file.example' }
    end
  end
  return helper
end

local sidecar = require 'sidecar'
local handler
local actions = {}

local function conn_meta(values)
  local meta = {}
  function meta:get_meta(name)
    return values[name]
  end
  return meta
end

function actions.setup(request)
  handler = sidecar:setup(request.options)
  return 'done'
end

function actions.ask(request)
  return handler(request.domain, request.listener, conn_meta(request.meta)) or cjson.null
end

function actions.clock(request)
  kumo.now = request.now
  return 'done'
end

os.time = function() -- luacheck: ignore 122
  return kumo.now
end

local sign

function actions.setup_sign(request)
  sign = require('sidecar_sign'):setup(request.options)
  return 'done'
end

function actions.sign(request)
  sign(kumo.message(request.message))
  return request.message
end

function actions.sign_problems(request)
  return setmetatable(require('sidecar_sign').problems(request.options), cjson.array_mt)
end

local verify

function actions.setup_verify(request)
  verify = require('sidecar_verify'):setup(request.options)
  return 'done'
end

function actions.verify_recipient(request)
  return verify.recipient(request.address) or cjson.null
end

function actions.verify_report(request)
  return verify.report(kumo.message(request.message), conn_meta(request.meta)) or cjson.null
end

function actions.verify_problems(request)
  return setmetatable(require('sidecar_verify').problems(request.options), cjson.array_mt)
end

function actions.validate_sign()
  kumo.handlers.validate_config()
  return kumo.failed
end

function actions.too_old()
  kumo.too_old = true
  return 'done'
end

function actions.problems(request)
  return setmetatable(sidecar.problems(request.options), cjson.array_mt)
end

function actions.validate()
  local printed = {}
  local real_print = print
  print = function(line) -- luacheck: ignore 121
    table.insert(printed, line)
  end
  kumo.handlers.validate_config()
  print = real_print -- luacheck: ignore 121
  return { printed = printed, failed = kumo.failed }
end

local suppression

function actions.setup_suppression(request)
  suppression = require('sidecar_suppression'):setup(request.options)
  return 'done'
end

function actions.suppression_problems(request)
  return setmetatable(require('sidecar_suppression').problems(request.options), cjson.array_mt)
end

function actions.check_recipient(request)
  suppression.recipient(request.address)
  return 'accepted'
end

function actions.check_message(request)
  suppression.message(kumo.message(request.message))
  return 'accepted'
end

io.stdout:setvbuf 'line'
for line in io.lines() do
  local request = cjson.decode(line)
  kumo.logged = {}
  local ok, result = pcall(actions[request.action], request)
  local answer = { logged = kumo.logged, files = files }
  if ok then
    answer.result = result
  elseif type(result) == 'table' then
    answer.reject = result
  else
    answer.error = tostring(result)
  end
  print(cjson.encode(answer))
end
