/* SPDX-License-Identifier: GPL-2.0-only */
/*
 * What happens to places: bookkeeping for everybody, and what nobody in a scope may do.
 *
 * Everything here takes places as numbers (entries of directories), since hooks on entries know no
 * mount: how their filesystem is reached does not matter to what is moved within it.
 */
#ifndef AEGIS_MOVE_H
#define AEGIS_MOVE_H

static __always_inline u32 kind_of(u64 inode_number)
{
	struct inode *inode = (void *)inode_number;

	return FIELD(false, inode, i_mode) & S_IFMT;
}

static __always_inline u32 links_of(u64 inode_number)
{
	struct inode *inode = (void *)inode_number;

	return FIELD(false, inode, i_nlink);
}

static __always_inline u32 label_of_filesystem_at(u32 slot, u64 place)
{
	struct dentry *dentry = (void *)place;
	struct super_block *super = FIELD(false, dentry, d_sb);

	return filesystem_label(slot, FIELD(false, super, s_dev));
}

/* Whether a slot holds rules with objects on the filesystem of a place. */
static __always_inline bool has_objects_at(u32 slot, u64 place)
{
	struct aegis_generation *generation = bpf_map_lookup_elem(&generations, &slot);
	u32 label;

	if (!generation || !generation->number)
		return false;
	label = label_of_filesystem_at(slot, place);
	return label && label != AEGIS_UNSEEN;
}

/* What the rules say of accesses to an entry, and to the inode behind it; 0: to a name alone. */
__noinline u64 weigh_entry(u32 slot, u64 asked, u64 place, u64 inode)
{
	struct dentry *dentry = (void *)place;
	u32 strictest = label_of_filesystem_at(slot, place);
	found labels;

	if (!strictest || strictest == AEGIS_UNSEEN)
		return weigh_elsewhere(slot, asked, number_of(FIELD(false, dentry, d_sb)), inode,
				       strictest);
	labels = place_labels(slot, place, 0);
	if (inode)
		labels = found_both(own_labels(slot, inode, true), labels);
	return weigh_found(slot, asked, labels, strictest, 0);
}

/*
 * A directory goes from one place to another. If names are bound below it, they go on being so,
 * since its late row tells its node. Where such a directory, or one that may hold such, comes to a
 * place that has a say of its own, that holds as well: walks must not end before they come there.
 *
 * @own, @named: its row, and that of its name
 */
static __always_inline void directory_moves(u32 slot, u64 own, u64 named, u64 to)
{
	volatile struct aegis_marks *mark = &marks[slot & SLOT_MASK];
	u32 node = (u32)own ? own : named, node_there = bound_name(slot, to);

	if (node && node != node_there)
		__sync_fetch_and_add(&mark->strays, 1);
	if (mark->strays && ((node_there && node_there != node) || place_labels(slot, to, 0)))
		__sync_fetch_and_add(&mark->directories, 1);
}

/*
 * What goes along from one place to another: all that the old place says and the new one does not.
 * What is bound by its very name goes along in any case: between two names, an open in progress
 * might find neither.
 *
 * @flags: see pack_entry(); ENTRY_IS_OBJECT for a thing itself, none for what lies beneath it
 */
__noinline u64 goes_along(u32 slot, u64 from, u64 to, u32 outside, u64 flags)
{
	u64 entry = pack_entry(slot, 0, flags);
	found old = walk_from(from, 0, 0, entry);
	found new = to ? walk_from(to, 0, 0, entry) : 0;

	/* Whoever is denied nothing may publish where an except says so, and only there. */
	if (outside && (new >> 13 & 7) == AEGIS_WHY_EXCEPT)
		new = found_both(new, walk_from(to, 0, 0, entry | ENTRY_UNITES));
	/* Any rule on its filesystem. */
	if (old & FOUND_INCOMPLETE)
		old = found_one(label_of_filesystem_at(slot, from), AEGIS_WHY_LATE);
	/* The nearest comes first, and is its own name's if that is bound. */
	return found_less(old, (old >> 13 & 7) == AEGIS_WHY_NAME ? 0 : new);
}

/* The same now, and once policies are bound afresh: where directories have moved these differ. */
static __always_inline found goes_along_for_good(u32 slot, u64 from, u64 to, u32 outside, u64 flags)
{
	found labels = goes_along(slot, from, to, outside, flags);

	if (!marks[slot & SLOT_MASK].directories)
		return labels;
	return found_both(labels, goes_along(slot, from, to, outside, flags | ENTRY_AFRESH));
}

/*
 * A thing leaves a place, in one slot: what was denied there goes along with its inode.
 *
 * @to: its new place, or one more; 0: none
 * @outside: by a process in no scope
 */
__noinline u32 leave(u32 slot, u64 from, u64 to, u32 outside)
{
	u64 inode = inode_of(from), own, named;
	found itself, others, beneath = 0;
	u32 node = 0;

	if (!inode || !has_objects_at(slot, from))
		return 0;
	itself = goes_along_for_good(slot, from, to, outside, ENTRY_IS_OBJECT);
	if (kind_of(inode) == S_IFDIR) {
		own = known_row(slot, inode);
		named = bound_name(slot, from);
		/* As above: by its very name, and so in any case. */
		beneath = goes_along_for_good(slot, from, said_by(named, false, 0) ? 0 : to,
					      outside, 0);
		if (to)
			directory_moves(slot, own, named, to);
		node = (u32)own ? own : named;
		/* A row has one node: what is bound below other names is denied throughout. */
		if (has_late_rows(slot)) {
			others = bound_elsewhere(slot, from, node);
			itself = found_both(itself, others);
			beneath = found_both(beneath, others);
		}
	}
	/* Not what its own row says: that is this generation's, and the next has none for it. */
	itself = found_less(itself, with_late_labels(slot, inode, /* is_object= */ true, 0));
	beneath = found_less(beneath, with_late_labels(slot, inode, /* is_object= */ false, 0));
	if (itself || beneath || node)
		remember(slot, inode, itself, beneath, node);
	return 0;
}

/*
 * A thing that has, or keeps, another name comes to a place, in one slot: what is denied there is
 * denied by all of its names, as if it had had them when the slot was filled.
 */
__noinline u32 join(u32 slot, u64 from, u64 to)
{
	u64 inode = inode_of(from);
	found labels;

	if (!inode || !has_objects_at(slot, to))
		return 0;
	labels = found_less(goes_along_for_good(slot, to, from, false, ENTRY_IS_OBJECT),
			    with_late_labels(slot, inode, /* is_object= */ true, 0));
	if (labels)
		remember(slot, inode, labels, 0, 0);
	return 0;
}

/* A symbolic link comes to a place, or goes: names that lead through it lead elsewhere. */
__noinline u32 link_changes(u32 slot, u64 place)
{
	if (has_objects_at(slot, place) && bound_name(slot, place))
		__sync_fetch_and_add(&marks[slot & SLOT_MASK].links, 1);
	return 0;
}

/*
 * Before anything is moved, linked or taken away (`to` is 0). In every slot that is filled, since
 * each may decide at any time.
 *
 * @stays: `to` is one more place
 */
static __always_inline void note_move(struct subject subject, u64 from, u64 to, bool stays)
{
	u64 inode = inode_of(from);
	u32 kind = kind_of(inode);
	bool is_link = kind == S_IFLNK;
	/* Whole trees of links would leave no room: only of whoever is denied something there. */
	bool joins = to && subject.scope && kind != S_IFDIR && (stays || links_of(inode) > 1) &&
		     is_denied(weigh_entry(subject.slot, anything(subject.scope), to, 0));

	for (u32 slot = 1; slot < AEGIS_SLOTS; slot++) {
		leave(slot, from, to, !subject.scope);
		if (joins)
			join(slot, from, to);
		if (is_link)
			link_changes(slot, from);
		if (is_link && to)
			link_changes(slot, to);
	}
}

static __always_inline u64 with_why(u64 answer, u64 why)
{
	return (answer & ~(0xffULL << 48)) | why << 48;
}

/*
 * Whether something in a directory that comes to a place may be free there: an except may name it.
 * While directories of policies are where others were, a place has several names, and one of them
 * may say so.
 */
static __always_inline bool may_free(u32 slot, u64 inode, u64 to)
{
	return kind_of(inode) == S_IFDIR &&
	       (marks[slot & SLOT_MASK].directories || bound_name(slot, to) & ROW_FREES);
}

/*
 * Landlock's rule for REFER: nothing gets a place where this scope is denied less. The first access
 * that is denied at the old place and not at the new one decides. What a thing takes along wherever
 * it goes makes no place stricter.
 */
__noinline u64 weigh_refer(u32 slot, u32 scope, u64 from, u64 to)
{
	u64 inode = inode_of(from), entry = pack_entry(slot, 0, ENTRY_IS_OBJECT | ENTRY_AFRESH);
	u32 strictest = label_of_filesystem_at(slot, to);

	for (u32 access = 0; access < AEGIS_ACCESSES; access++) {
		u64 asked = question(scope, 1U << access);
		packed_answer old = weigh_entry(slot, asked, from, inode);
		found there;

		if (!is_denied(old))
			continue;
		/* Where nothing is bound, or not yet, nothing stays denied by its place. */
		if (!strictest || strictest == AEGIS_UNSEEN || may_free(slot, inode, to))
			return with_why(old, AEGIS_WHY_REFER);
		there = walk_from(to, 0, 0, entry);
		if (!is_denied(weigh_found(slot, asked, there, strictest, 0)))
			return with_why(old, AEGIS_WHY_REFER);
	}
	return 0;
}

/*
 * What is on the way to an object (a directory, or a link) stays where it is for everybody to whom
 * the object is denied: else its name could be given to something else. Nor does a link come there:
 * what is put at the name of an object would be where that leads.
 *
 * @inode: what stands there; 0: a link is to come
 */
__noinline u64 weigh_way(u32 slot, u32 scope, u64 place, u64 inode)
{
	u32 strictest = label_of_filesystem_at(slot, place);
	u64 asked = anything(scope);
	u32 by_name, by_inode = 0;
	packed_answer answer = 0;

	if (!strictest || strictest == AEGIS_UNSEEN)
		return 0;
	if (inode) {
		u32 kind = kind_of(inode);

		if (kind != S_IFDIR && kind != S_IFLNK)
			return 0;
		by_inode = row_beneath(row_of(/* direct= */ false, slot, (struct inode *)inode));
	}
	by_name = row_beneath(bound_name(slot, place));
	if (by_name)
		answer = weigh_found(slot, asked, found_one(by_name, AEGIS_WHY_NAME), 0, answer);
	if (by_inode)
		answer = weigh_found(slot, asked, found_one(by_inode, AEGIS_WHY_INODE), 0, answer);
	return is_denied(answer) ? with_why(answer, AEGIS_WHY_WAY) : 0;
}

/* See aegis_inode_follow_link. */
__noinline u64 weigh_link(u32 slot, u32 scope, u64 place)
{
	u32 strictest = label_of_filesystem_at(slot, place);
	packed_answer first = 0;
	u64 row;

	if (!strictest || strictest == AEGIS_UNSEEN)
		return 0;
	row = bound_name(slot, place);
	if (!row)
		return 0;
	/*
	 * A link on the way has changed, or there was none here: what is bound below it may be
	 * where it leads now.
	 */
	if (marks[slot & SLOT_MASK].links || !(row & ROW_LINK))
		return weigh_way(slot, scope, place, inode_of(place));
	if (!row_label(row))
		return 0;
	for (u32 access = 0; access < AEGIS_ACCESSES; access++) {
		packed_answer answer = weigh_found(slot, question(scope, 1U << access),
						   found_one(row_label(row), AEGIS_WHY_NAME), 0, 0);

		if (!is_denied(answer))
			return 0;
		if (!access)
			first = answer;
	}
	return with_why(first, AEGIS_WHY_WAY);
}

#endif
