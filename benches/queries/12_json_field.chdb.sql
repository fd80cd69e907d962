select if(JSONHas(metadata, 'browser'), JSONExtractString(metadata, 'browser'), null) as browser, count(*) as events
from activity
group by 1
order by 2 desc, 1
