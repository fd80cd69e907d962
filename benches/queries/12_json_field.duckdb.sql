select json_extract_string(metadata, '$.browser') as browser, count(*) as events
from activity
group by 1
order by 2 desc, 1
