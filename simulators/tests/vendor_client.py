"""The vendor's own client, unchanged, against a simulator: list, search with paging, batch read, create, batch update,
archive, associations, owners, pipelines. Usage: vendor_client.py BASE_URL TOKEN. Prints a line for each step, exits 1 on the first failure."""

import sys

from hubspot import HubSpot
from hubspot.crm.associations.v4 import BatchInputPublicFetchAssociationsBatchRequest
from hubspot.crm.companies import (
    BatchInputSimplePublicObjectBatchInput,
    BatchInputSimplePublicObjectBatchInputForCreate,
    BatchInputSimplePublicObjectBatchInputUpsert,
    BatchInputSimplePublicObjectId,
    BatchReadInputSimplePublicObjectId,
    PublicMergeInput,
    PublicObjectSearchRequest,
    SimplePublicObjectInputForCreate,
)
from hubspot.crm.companies.exceptions import ApiException


def step(name, holds, seen=None):
    print(f"{'ok' if holds else 'FAILED'}: {name}" + ("" if holds else f", got {seen!r}"))
    if not holds:
        sys.exit(1)


def refused(call):
    try:
        call()
    except ApiException as error:
        return error.status
    return None


def listing(crm):
    companies = crm.companies.get_all(properties=["name", "domain"])
    ids = [company.id for company in companies]
    step("list follows its pages to the end, without doubles", len(ids) > 100 and len(set(ids)) == len(ids), len(ids))
    archived = crm.companies.basic_api.get_page(limit=100, archived=True).results
    step("archived records are listed apart", archived and all(one.archived and one.archived_at for one in archived))
    step("no archived record is among the live ones", not set(ids) & {one.id for one in archived})
    page = crm.contacts.basic_api.get_page(limit=100, associations=["companies"], properties=["email"])
    linked = [contact for contact in page.results if contact.associations]
    step("contacts carry their companies", len(linked) > 50, len(linked))
    return ids


def searching(crm, ids):
    def page_after(after):
        request = PublicObjectSearchRequest(
            filter_groups=[{"filters": [{"propertyName": "hs_lastmodifieddate", "operator": "GTE", "value": "0"}]}],
            sorts=[{"propertyName": "hs_lastmodifieddate", "direction": "DESCENDING"}],
            properties=["name"],
            limit=100,
            after=after,
        )
        return crm.companies.search_api.do_search(request)

    found, times, after = [], [], None
    while True:
        page = page_after(after)
        found += [company.id for company in page.results]
        times += [company.updated_at for company in page.results]
        if page.paging is None or page.paging.next is None:
            break
        after = page.paging.next.after
    step("search pages through every live record once", sorted(found) == sorted(ids), (len(found), len(ids)))
    step("search tells the total", page.total == len(ids), page.total)
    step("search sorts", times == sorted(times, reverse=True))
    step("search beyond 10,000 is refused", refused(lambda: page_after("9999")) == 400)


def batches(crm, ids):
    wanted = ids[:3]
    read = BatchReadInputSimplePublicObjectId(
        inputs=[{"id": one} for one in wanted], properties=["name"], properties_with_history=[]
    )
    results = crm.companies.batch_api.read(read).results
    step("batch read gives the records asked for", [company.id for company in results] == wanted)

    created = crm.companies.basic_api.create(SimplePublicObjectInputForCreate(properties={"name": "Ünïcode 🦀"}))
    step("create gives an id", created.id.isdigit() and created.properties["name"] == "Ünïcode 🦀", created)
    more = BatchInputSimplePublicObjectBatchInputForCreate(
        inputs=[{"properties": {"name": f"batch {number}"}, "associations": []} for number in range(2)]
    )
    both = [company.id for company in crm.companies.batch_api.create(more).results]
    step("batch create gives ids", len(set(both)) == 2, both)

    update = BatchInputSimplePublicObjectBatchInput(
        inputs=[{"id": one, "properties": {"gtm_score": "87.5"}, "objectWriteTraceId": f"t{one}"} for one in both]
    )
    updated = crm.companies.batch_api.update(update).results
    step("batch update writes and echoes the trace id", [one.object_write_trace_id for one in updated] == [f"t{one}" for one in both])
    seen = crm.companies.basic_api.get_by_id(both[0], properties=["gtm_score"])
    step("a read shows the update", seen.properties["gtm_score"] == "87.5" and seen.updated_at > seen.created_at, seen)
    upsert = BatchInputSimplePublicObjectBatchInputUpsert(
        inputs=[{"id": domain, "idProperty": "domain", "properties": {"name": domain}} for domain in ["new.example"] * 2]
    )
    upserted = crm.companies.batch_api.upsert(upsert).results
    step("upsert creates, then finds", [one.new for one in upserted] == [True, False], upserted)
    return created.id, both, upserted[0].id


def endings(crm, created, both, upserted):
    crm.companies.basic_api.archive(created)
    step("an archived record is not found", refused(lambda: crm.companies.basic_api.get_by_id(created)) == 404)
    gone = crm.companies.basic_api.get_by_id(created, archived=True)
    step("an archived record is found on demand", gone.archived and gone.archived_at is not None, gone)
    crm.companies.batch_api.archive(BatchInputSimplePublicObjectId(inputs=[{"id": upserted}]))
    step("batch archive archives", refused(lambda: crm.companies.basic_api.get_by_id(upserted)) == 404)
    winner = crm.companies.basic_api.merge(PublicMergeInput(primary_object_id=both[0], object_id_to_merge=both[1]))
    trail = crm.companies.basic_api.get_by_id(both[1], properties=["hs_merged_object_ids"])
    step("a merged id leads to the winner", trail.id == winner.id == both[0], trail)
    step("the winner names the merged one", trail.properties["hs_merged_object_ids"] == both[1], trail)


def directory(crm):
    owners = crm.owners.get_all()
    step("owners are listed", owners and all(owner.email for owner in owners))
    step("archived owners are listed apart", all(owner.archived for owner in crm.owners.get_all(archived=True)))
    pipelines = crm.pipelines.pipelines_api.get_all("deals").results
    step("pipelines have stages", all(stage.metadata["isClosed"] for one in pipelines for stage in one.stages))
    contact = crm.contacts.basic_api.get_page(limit=100, associations=["companies"]).results
    contact = next(one.id for one in contact if one.associations)
    request = BatchInputPublicFetchAssociationsBatchRequest(inputs=[{"id": contact}])
    read = crm.associations.v4.batch_api.get_page("contacts", "companies", request).results
    labels = [kind.label for result in read for to in result.to for kind in to.association_types]
    step("associations name the primary company", "Primary" in labels, labels)


def main(base_url, token):
    crm = HubSpot(access_token=token, host=base_url).crm
    stranger = HubSpot(access_token="wrong", host=base_url).crm
    step("a wrong token is refused", refused(lambda: stranger.companies.basic_api.get_page()) == 401)
    ids = listing(crm)
    searching(crm, ids)
    endings(crm, *batches(crm, ids))
    directory(crm)


if __name__ == "__main__":
    main(*sys.argv[1:])
