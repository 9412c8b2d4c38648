# Renders templates with the Ruby engine: one JSON object a line in, one a line out.
# In: {"source": "…", "globals": {…}}. Out: for each way of parsing its text, or why there is none.
ENV['TZ'] = 'UTC'
require 'json'
require 'liquid'

# OneSignal's own filters, and `blank?` as Rails has it.
module OneSignalFilters
  def pluralize(input, singular, plural)
    Liquid::Utils.to_number(input) == 1 ? singular : plural
  end

  def track_link(input)
    input
  end
end
Liquid::Template.register_filter(OneSignalFilters)

class Object
  def blank?
    respond_to?(:empty?) ? !!empty? : !self
  end
end

class String
  def blank?
    match?(/\A[[:space:]]*\z/)
  end
end

class Numeric
  def blank?
    false
  end
end

def rendered(source, globals, mode)
  template = Liquid::Template.parse(source, error_mode: mode)
  { text: template.render(globals) }
rescue Liquid::SyntaxError => e
  { error: e.message }
end

$stdout.sync = true
$stdin.each_line do |line|
  task = JSON.parse(line)
  answer = %i[lax strict].to_h { |mode| [mode, rendered(task['source'], task['globals'], mode)] }
  puts JSON.generate(answer)
end
